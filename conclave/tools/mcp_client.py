"""One MCP server, spoken to in sessions: one is opened at the first call, ended when the server breaks a bound, and followed by
another.

    1. the way to the server is opened (conclave.tools.mcp_process, conclave.tools.mcp_http)
    2. `initialize`, within the limit of a call
    3. calls, several at a time; each is answered, or given up at its limit
    4. the server is gone, or says too much unasked: the session is ended, and so is what the way to it holds
Over HTTP a call that was given up, and a session that the server has forgotten, wear a session out: it is given no more calls, and
ended once those that it has are done. This module imports the library, which takes a second: only who has servers imports it,
before it takes work.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import anyio
import structlog
from anyio.streams.memory import MemoryObjectSendStream
from mcp import ClientSession, MCPError
from mcp.shared.message import SessionMessage
from mcp.types import CallToolRequest, CallToolRequestParams, CallToolResult

from conclave.tools.mcp_http import HttpWay
from conclave.tools.mcp_process import ProcessWay
from conclave.tools.mcp_servers import McpServer, McpTool, arguments_of, tools_of
from conclave.tools.remote import Asked, RemoteTool

MAX_UNASKED = 1_000  # messages between two answers
_MAX_CALLS = 16  # of one server at a time
_RESTART_PAUSE_S = 1.0
_END_S = 4.0

log = structlog.get_logger(__name__)

Streams = tuple[AsyncIterator[SessionMessage | None], Any]


class Way(Protocol):
    """How a server is spoken to."""

    wears_out: bool  # a call that is given up leaves something behind
    forgotten: str  # the `data` of the error of a call that was not made, since its session is known no more; "": there is none

    def opened(self) -> AbstractAsyncContextManager[Streams]:
        """What the server says to its end, each bounded in bytes, None where it is no message; and the stream of what it is told.

        On leaving, all that there is of it has ended.
        """


class McpClient:
    """See the module's docstring."""

    def __init__(self, name: str, server: McpServer) -> None:
        self._name, self._server = name, server
        self._way: Way = HttpWay(name, server) if server.url else ProcessWay(name, server)
        self._calls = asyncio.Semaphore(_MAX_CALLS)
        self._session: _Session | None = None
        self._sessions: set[_Session] = set()  # that have not ended
        self._may_open_at = 0.0

    async def call(self, tool: McpTool, text: str, more: Mapping[str, str] = MappingProxyType({})) -> str:
        """What a tool says; `error: …` where it says that it failed, or is away. May take as long as its caller waits.

        `more` are arguments besides those that `text` writes.
        """
        try:
            arguments = arguments_of(tool, text) | dict(more)
        except ValueError as error:
            return f"error: {error}"
        request = CallToolRequest(params=CallToolRequestParams(name=tool.tool, arguments=arguments))
        async with self._calls:
            for _ in range(2):  # a server that has been replaced knows no session of the one before, and made no call
                session = await self._opened()
                if session is None:
                    break
                said = await session.answer(request)
                if said is not None:
                    return said
        return f"error: the server {self._name} is away just now"

    async def stop(self) -> None:
        """Ends all that is open."""
        ending = {session.end() for session in self._sessions}
        if ending:
            await asyncio.wait(ending, timeout=_END_S)

    async def _opened(self) -> "_Session | None":
        """A session that takes calls; None where none can be had."""
        now = asyncio.get_running_loop().time()
        if self._session is None or self._session.takes_no_calls:
            if now < self._may_open_at:
                return None
            self._may_open_at = now + _RESTART_PAUSE_S
            self._session = _Session(self._name, self._server.limit_s, self._way)
            self._sessions.add(self._session)
            self._session.task.add_done_callback(partial(self._ended, self._session))
        session = self._session
        with contextlib.suppress(ConnectionError):
            await asyncio.shield(session.ready)
            return session
        return None

    def _ended(self, session: "_Session", _: "asyncio.Task[None]") -> None:
        self._sessions.discard(session)


class _Session:
    """From its opening to its end; begins at once."""

    def __init__(self, name: str, limit_s: float, way: Way) -> None:
        self._name, self._limit_s, self._way = name, limit_s, way
        self.ready: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._asking: set[asyncio.Task[CallToolResult]] = set()
        self._num_unasked = 0
        self._is_worn = self._is_ending = False
        self._hearing: asyncio.Task[None] | None = None
        self.task = asyncio.create_task(self._run(), name=f"mcp server {name}")

    @property
    def takes_no_calls(self) -> bool:
        """True once it has ended, or is to end."""
        return self._is_worn or self.task.done()

    def end(self) -> "asyncio.Task[None]":
        """The task to wait for until it has ended."""
        if not self._is_ending:  # what already ends must not be kept from waiting for what it ends
            self.task.cancel()
        return self.task

    async def answer(self, request: CallToolRequest) -> str | None:
        """What came of a call; None where the server knows no such session and made no call.

        The call is a task of its own: one that is given up says so to its server, and its caller doesn't wait for that.
        """
        client = self.ready.result()
        asking = asyncio.create_task(
            client.send_request(request, CallToolResult, request_read_timeout_seconds=self._limit_s),
            name=f"call of {self._name}",
        )
        self._asking.add(asking)
        asking.add_done_callback(self._asked)
        try:
            await asyncio.wait({asking}, timeout=self._limit_s)
        finally:
            if not asking.done():
                self._is_worn |= self._way.wears_out
                asking.cancel()
        if not asking.done():
            return f"error: {self._name} failed: no answer within {self._limit_s:g} s"
        try:
            result = asking.result()
        except Exception as error:  # noqa: BLE001  of any kind, as the server or its library fails
            if self._way.forgotten and isinstance(error, MCPError) and error.data == self._way.forgotten:
                self._is_worn = True
                self._end_if_worn()
                return None
            return f"error: {self._name} failed: {' '.join(str(error).split())[:200]}"
        self._num_unasked = 0
        return _said(result)

    def _asked(self, asking: "asyncio.Task[CallToolResult]") -> None:
        self._asking.discard(asking)
        if not asking.cancelled():
            asking.exception()  # is told where it was waited for
        self._end_if_worn()

    def _end_if_worn(self) -> None:
        if self._is_worn and not self._asking and self._hearing is not None:
            self._hearing.cancel()

    async def _run(self) -> None:
        try:
            async with self._way.opened() as (said, to_server):
                try:
                    await self._talk(said, to_server)
                finally:
                    self._begin_to_end()
        except Exception as error:  # noqa: BLE001  whatever is the matter, the next call may open another
            log.warning("mcp_server_failed", server=self._name, error=_told(error))
        finally:
            self._begin_to_end()
            if self._asking:  # they have been told that it has ended
                await asyncio.wait(self._asking, timeout=_END_S)

    def _begin_to_end(self) -> None:
        self._is_ending = True
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"{self._name} did not start"))
            self.ready.exception()

    async def _talk(self, said: AsyncIterator[SessionMessage | None], to_server: Any) -> None:
        """Returns when the server has said its last, or the session is worn out."""
        to_session, from_server = anyio.create_memory_object_stream[Any](0)
        async with to_session, from_server, asyncio.TaskGroup() as tasks:
            hearing = self._hearing = tasks.create_task(self._hear(said, to_session), name=f"from {self._name}")
            try:
                async with ClientSession(from_server, to_server, read_timeout_seconds=self._limit_s) as client:
                    async with asyncio.timeout(self._limit_s):
                        await client.initialize()
                    self.ready.set_result(client)
                    await asyncio.wait({hearing})
            finally:
                hearing.cancel()

    async def _hear(self, said: AsyncIterator[SessionMessage | None], to_session: MemoryObjectSendStream[Any]) -> None:
        """Hands on what the server says. Ends at its end, or where it says too much unasked."""
        # A session whose server has ended is told so; one that has ended itself is told nothing.
        with contextlib.suppress(anyio.BrokenResourceError):
            async with to_session:
                await self._hand_on(said, to_session)

    async def _hand_on(
        self, said: AsyncIterator[SessionMessage | None], to_session: MemoryObjectSendStream[Any]
    ) -> None:
        async for message in said:
            self._num_unasked += 1
            if self._num_unasked > MAX_UNASKED:
                log.warning("mcp_server_babbles", server=self._name, max_messages=MAX_UNASKED)
                return
            if message is not None:
                await to_session.send(message)


def _told(error: BaseException) -> str:
    """The first of a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return repr(error)[:500]


def _said(result: CallToolResult) -> str:
    """The texts of a result; what is no text is named."""
    parts = [getattr(each, "text", None) or f"({each.type})" for each in result.content]
    text = "\n".join(str(part) for part in parts).strip() or "(nothing)"
    return f"error: {text}" if result.is_error else text


def remote_tools(servers: dict[str, McpServer]) -> tuple[dict[str, RemoteTool], list[McpClient]]:
    """All tools of all servers as the decoder's toolbox wants them, and the clients, which are to be stopped."""
    clients = {name: McpClient(name, server) for name, server in servers.items()}
    tools = {
        each.name: RemoteTool(
            _bound(clients[each.server], each),
            limit_s=servers[each.server].limit_s,
            max_answer_chars=servers[each.server].max_answer_chars,
        )
        for each in tools_of(servers)
    }
    return tools, list(clients.values())


def _bound(client: McpClient, tool: McpTool) -> Asked:
    async def ask(text: str) -> str:
        return await client.call(tool, text)

    return ask
