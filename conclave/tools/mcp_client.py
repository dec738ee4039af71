"""One MCP server as a process, kept while it behaves: started at the first call, ended when it breaks a bound, started again later.

    1. the process is started, in a session of its own, with nothing of our environment but PATH, HOME and what the file gives
    2. `initialize`, within the limit of a call
    3. calls, several at a time; each is answered, or given up at its limit
    4. it dies, says a line that is too long, or says too much unasked: it is killed with all that it has started
A line is read up to a bound, whatever length it claims, so a server that lies about sizes takes no memory. This module imports the
library, which takes a second: only a decoder that has servers imports it, before it takes work.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp import ClientSession
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from conclave.tools.mcp_servers import McpServer, McpTool, arguments_of, tools_of
from conclave.tools.remote import Asked, RemoteTool

MAX_LINE_BYTES = 1_048_576
MAX_UNASKED_LINES = 1_000  # between two answers
_MAX_CALLS = 16  # of one server at a time
_RESTART_PAUSE_S = 1.0
_END_S = 2.0

log = structlog.get_logger(__name__)


class McpClient:
    """See the module's docstring."""

    def __init__(self, name: str, server: McpServer) -> None:
        self._name, self._server = name, server
        self._calls = asyncio.Semaphore(_MAX_CALLS)
        self._task: asyncio.Task[None] | None = None
        self._session: asyncio.Future[ClientSession] | None = None
        self._num_unasked = 0
        self._may_start_at = 0.0
        self._is_ending = False

    async def call(self, tool: McpTool, text: str, more: Mapping[str, str] = MappingProxyType({})) -> str:
        """What a tool says; `error: …` where it says that it failed, or is away. May take as long as its caller waits.

        `more` are arguments besides those that `text` writes.
        """
        try:
            arguments = arguments_of(tool, text) | dict(more)
        except ValueError as error:
            return f"error: {error}"
        async with self._calls:
            session = await self._running()
            if session is None:
                return f"error: the server {self._name} is away just now"
            try:
                result = await session.call_tool(tool.tool, arguments, read_timeout_seconds=self._server.limit_s)
            except Exception as error:  # noqa: BLE001  of any kind, as the server or its library fails
                return f"error: {self._name} failed: {' '.join(str(error).split())[:200]}"
            self._num_unasked = 0
            return _said(result)

    async def stop(self) -> None:
        """Ends the process, if there is one."""
        if self._task is not None:
            if not self._is_ending:  # what already ends its process must not be kept from waiting for it
                self._task.cancel()
            await asyncio.wait({self._task}, timeout=2 * _END_S)

    async def _running(self) -> ClientSession | None:
        """The session of a server that runs; None where none can be had."""
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done():
            if loop.time() < self._may_start_at:
                return None
            self._may_start_at = loop.time() + _RESTART_PAUSE_S
            self._session = loop.create_future()
            self._task = asyncio.create_task(self._serve(self._session), name=f"mcp server {self._name}")
        assert self._session is not None
        with contextlib.suppress(ConnectionError):
            return await asyncio.shield(self._session)
        return None

    async def _serve(self, ready: "asyncio.Future[ClientSession]") -> None:
        process: asyncio.subprocess.Process | None = None
        self._num_unasked, self._is_ending = 0, False
        try:
            process = await self._started()
            await self._talk(process, ready)
        except Exception as error:  # noqa: BLE001  whatever is the matter, the next call may start it again
            log.warning("mcp_server_failed", server=self._name, error=repr(error)[:500])
        finally:
            self._is_ending = True
            if not ready.done():
                ready.set_exception(ConnectionError(f"{self._name} did not start"))
                ready.exception()
            if process is not None:
                await _ended(process)

    async def _started(self) -> asyncio.subprocess.Process:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return await asyncio.create_subprocess_exec(
            *self._server.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=MAX_LINE_BYTES,
            env=kept | self._server.env,
            start_new_session=True,
        )

    async def _talk(self, process: asyncio.subprocess.Process, ready: "asyncio.Future[ClientSession]") -> None:
        """Returns when the server has said its last."""
        to_session, from_server = anyio.create_memory_object_stream[Any](0)
        to_server, from_session = anyio.create_memory_object_stream[Any](0)
        async with to_session, from_server, to_server, from_session, asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(_write(process, from_session), name=f"to {self._name}")
            reading = tasks.create_task(self._read(process, to_session), name=f"from {self._name}")
            try:
                async with ClientSession(from_server, to_server, read_timeout_seconds=self._server.limit_s) as session:
                    async with asyncio.timeout(self._server.limit_s):
                        await session.initialize()
                    ready.set_result(session)
                    await asyncio.wait({reading})
            finally:
                reading.cancel()
                writing.cancel()

    async def _read(self, process: asyncio.subprocess.Process, to_session: MemoryObjectSendStream[Any]) -> None:
        """Hands on what the server says. Ends at its end, or where it breaks a bound."""
        async with to_session:  # a session whose server has ended is told so
            async for line in self._lines(process):
                try:
                    message: Any = SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
                except ValueError:
                    continue  # what some servers print besides
                await to_session.send(message)

    async def _lines(self, process: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
        assert process.stdout is not None
        while self._num_unasked <= MAX_UNASKED_LINES:
            try:
                line = await process.stdout.readline()
            except ValueError:
                log.warning("mcp_server_line_too_long", server=self._name, max_bytes=MAX_LINE_BYTES)
                return
            if not line:
                return
            self._num_unasked += 1
            yield line


async def _write(process: asyncio.subprocess.Process, from_session: MemoryObjectReceiveStream[Any]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        async for message in from_session:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(text.encode() + b"\n")
            await process.stdin.drain()


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Kills the process and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(_END_S):
            await process.wait()
            assert process.stdin is not None
            process.stdin.close()
            await process.stdin.wait_closed()


def _said(result: Any) -> str:
    """The texts of a result; what is no text is named."""
    parts = [getattr(each, "text", None) or f"({each.type})" for each in getattr(result, "content", ())]
    text = "\n".join(str(part) for part in parts).strip() or "(nothing)"
    return f"error: {text}" if getattr(result, "is_error", False) else text


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
