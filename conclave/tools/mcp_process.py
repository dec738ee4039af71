"""An MCP server as a process, spoken to over its standard input and output, a message a line.

It is started in a session of its own, with nothing of our environment but PATH, HOME, LANG and what the file gives, and killed with
all that it has started. A line is read up to a bound, whatever length it claims, so a server that lies about sizes takes no memory.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from conclave.tools.mcp_servers import McpServer, values_of

MAX_LINE_BYTES = 1_048_576
_END_S = 2.0

log = structlog.get_logger(__name__)


class ProcessWay:
    """See the module's docstring."""

    wears_out = False
    forgotten = ""

    def __init__(self, name: str, server: McpServer) -> None:
        self._name, self._server = name, server

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[AsyncIterator[SessionMessage | None], Any]]:
        """Starts the process; on leaving it is killed, and waited for. Raises: OSError; Misconfigured, for a value of its `env`."""
        process = await self._started()
        try:
            to_server, from_session = anyio.create_memory_object_stream[SessionMessage](0)
            async with to_server, from_session, asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(_write(process, from_session), name=f"to {self._name}")
                try:
                    yield self._messages(process), to_server
                finally:
                    writing.cancel()
        finally:
            await _ended(process)

    async def _started(self) -> asyncio.subprocess.Process:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return await asyncio.create_subprocess_exec(
            *self._server.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=MAX_LINE_BYTES,
            env=kept | values_of(self._server.env),
            start_new_session=True,
        )

    async def _messages(self, process: asyncio.subprocess.Process) -> AsyncIterator[SessionMessage | None]:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                log.warning("mcp_server_line_too_long", server=self._name, max_bytes=MAX_LINE_BYTES)
                return
            if not line:
                return
            yield _message(line)


def _message(line: bytes) -> SessionMessage | None:
    """None for what some servers print besides."""
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        return None


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
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(_END_S):
            await process.wait()
            while await process.stdout.read(MAX_LINE_BYTES):  # asyncio closes its ends once it has read the last
                pass
            process.stdin.close()
            await process.stdin.wait_closed()
