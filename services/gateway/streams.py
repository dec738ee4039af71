"""Server-sent events, and clients that go away."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import ExitStack
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

KEEP_ALIVE_S = 15.0  # shorter than what proxies take for silence
KEEP_ALIVE = b": still here\n\n"


def event(data: object, *, kind: str | None = None, name: str | None = None) -> bytes:
    """One event, its data as JSON. `name` becomes its id."""
    lines = [f"id: {name}\n".encode() if name else b"", f"event: {kind}\n".encode() if kind else b""]
    return b"".join([*lines, b"data: ", msgspec.json.encode(data), b"\n\n"])


class Streamed(StreamingResponse):
    """The answer that sends events. Whatever comes, they are closed in the end, and so is what they stand on.

    `when_left` is called once nothing more is sent, because all was sent or the client has left.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        closing: ExitStack | None = None,
        *,
        when_left: Callable[[], Awaitable[None]] | None = None,
        **headers: str,
    ) -> None:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no", **named})
        self._events, self._closing, self._when_left = events, closing or ExitStack(), when_left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends them. Starlette breaks off when the client goes away."""
        with self._closing:
            try:
                await super().__call__(scope, receive, send)
                # It returns when all is sent or the client has left; a gateway that stops cancels it instead.
                if self._when_left is not None:
                    await self._when_left()
            finally:
                await self._events.aclose()


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
