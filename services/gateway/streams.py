"""Server-sent events, and clients that go away."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import ExitStack, aclosing, suppress
from typing import Any

import msgspec
from anyio import CancelScope
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conclave.errors import LostDependency
from services.gateway.errors import ApiError

KEEP_ALIVE_S = 15.0  # shorter than what proxies take for silence
KEEP_ALIVE = b": still here\n\n"


def event(data: object, *, kind: str | None = None, name: str | None = None) -> bytes:
    """One event, its data as JSON. `name` becomes its id."""
    lines = [f"id: {name}\n".encode() if name else b"", f"event: {kind}\n".encode() if kind else b""]
    return b"".join([*lines, b"data: ", msgspec.json.encode(data), b"\n\n"])


def failed(error: ApiError) -> bytes:
    """The event that tells of an error where answers come as events."""
    return event(msgspec.json.decode(error.body))


async def while_let_in(
    events: AsyncGenerator[bytes, None],
    check: Callable[[], Awaitable[None]],
    told: Callable[[ApiError], bytes] | None = None,
) -> AsyncGenerator[bytes, None]:
    """The events, until `check` raises ApiError before one of them, and at last what `told` makes of that.

    Where it can't be known now, who was let in stays so.
    """
    async with aclosing(events):
        async for each in events:
            with suppress(LostDependency):
                try:
                    await check()
                except ApiError as refused:
                    if told is not None:
                        yield told(refused)
                    return
            yield each


class Streamed(StreamingResponse):
    """The answer that sends events. Whatever comes, they are closed in the end, and so is what they stand on.

    `when_left` is called once nothing more is sent, because all was sent or the client has left; `when_stopped`, when the
    gateway stops before.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        closing: ExitStack | None = None,
        *,
        when_left: Callable[[], Awaitable[None]] | None = None,
        when_stopped: Callable[[], None] | None = None,
        **headers: str,
    ) -> None:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no", **named})
        self._events, self._closing = events, closing or ExitStack()
        self._when_left, self._when_stopped = when_left, when_stopped

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends them. Starlette breaks off when the client goes away."""
        with self._closing:
            try:
                if scope["method"] == "HEAD":
                    await _head(self, scope, receive, send)
                    return
                try:
                    await super().__call__(scope, receive, send)
                except Exception:  # a client that takes nothing more has left too
                    await self._left()
                    raise
                except asyncio.CancelledError:  # the gateway stops
                    if self._when_stopped is not None:
                        self._when_stopped()
                    raise
                # It returns when all is sent or the client has left.
                await self._left()
            finally:
                await self._events.aclose()

    async def _left(self) -> None:
        if self._when_left is not None:
            await self._when_left()


async def _head(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Sends what it begins with, and no event: the connection would be busy with the rest."""
    await Response(status_code=response.status_code, headers=dict(response.headers))(scope, receive, send)


async def all_of(futures: Collection["asyncio.Future[Any]"]) -> None:
    """Returns when all are done."""
    await asyncio.wait(futures)


async def until_gone(request: Request) -> None:
    """Returns when the client has gone away. Its body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def are_done(wanted: Collection["asyncio.Future[Any]"], *, request: Request, timeout_s: float) -> bool:
    """True when all are done; False when their client went away or the time was up before."""
    gone = asyncio.create_task(until_gone(request), name="until gone")
    whole = asyncio.create_task(all_of(wanted), name="until all are done")
    try:
        await asyncio.wait({whole, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (whole, gone):
            task.cancel()
        await asyncio.wait({whole, gone})
    return all(future.done() for future in wanted)


async def ending_with_its_client(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Has an application answer; what it still does when its client goes away before is cancelled.

    1. The body is read, so that nothing but the client's leaving is left to hear.
    2. Whoever in `app` listens for that hears of it too.
    3. An answer that was sent in full may have an aftermath: that is no leaving.
    """
    request = Request(scope, receive)
    try:
        body = await request.body()  # 1
    except ClientDisconnect:
        return
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    has_left, is_whole = asyncio.Event(), False

    async def received() -> Message:
        if unread:
            return unread.pop()
        await has_left.wait()  # 2
        return {"type": "http.disconnect"}

    async def sending(message: Message) -> None:
        nonlocal is_whole
        await send(message)
        is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def watching(serving: CancelScope) -> None:
        await until_gone(request)
        has_left.set()
        if not is_whole:  # 3
            serving.cancel()

    # A scope of anyio's rather than a task that is cancelled: what `app` shields from it may still tidy up.
    with CancelScope() as serving:
        watcher = asyncio.create_task(watching(serving), name="watching a client")
        try:
            await app(scope, received, sending)
        finally:
            watcher.cancel()
