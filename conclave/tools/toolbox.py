"""Calling a tool from an event loop: in a thread of its own, within a limit, whatever the tool does."""

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from types import MappingProxyType

import structlog

from conclave.tools import TOOLS, Tool
from conclave.tools.remote import RemoteTool
from schemas.values import Call

LIMIT_S = 2.0
MAX_ANSWER_CHARS = 4_096
_MAX_THREADS = 64  # a tool that never comes back holds one for good

log = structlog.get_logger(__name__)


class Toolbox:
    """Tools by name, to be called. An answer always comes, and an error is one."""

    def __init__(
        self,
        tools: Mapping[str, Tool] = TOOLS,
        *,
        limit_s: float = LIMIT_S,
        remote: Mapping[str, RemoteTool] = MappingProxyType({}),
    ) -> None:
        """`remote` ones come before those of `tools` with the same name."""
        self._tools, self._limit_s, self._remote = tools, limit_s, remote
        self._threads = asyncio.Semaphore(_MAX_THREADS)

    async def answer(self, call: Call) -> str:
        """What the tool says, at most 4,096 characters; `error: …` when it fails or takes too long.

        In a daemon thread, not by `asyncio.to_thread`: a tool that hangs would keep one of a few workers, and the process
        from ending.
        """
        remote = self._remote.get(call.tool)
        if remote is not None:
            return await self._from_afar(remote, call)
        tool = self._tools.get(call.tool)
        if tool is None:
            return f"error: there is no tool {call.tool}"
        try:
            async with asyncio.timeout(self._limit_s):
                await self._threads.acquire()
                return (await self._started(tool, call))[:MAX_ANSWER_CHARS]
        except TimeoutError:
            log.warning("tool_too_slow", tool=call.tool, limit_s=self._limit_s)
            return f"error: {call.tool} took more than {self._limit_s:g} s"

    async def _from_afar(self, tool: RemoteTool, call: Call) -> str:
        try:
            async with asyncio.timeout(tool.limit_s):
                answer = await tool.ask(call.argument)
        except TimeoutError:
            log.warning("tool_too_slow", tool=call.tool, limit_s=tool.limit_s)
            return f"error: {call.tool} took more than {tool.limit_s:g} s"
        except Exception as error:  # noqa: BLE001  whatever is the matter over there, the path goes on
            log.warning("tool_failed", tool=call.tool, error=repr(error)[:500])
            return f"error: {call.tool} failed"
        return answer[: min(tool.max_answer_chars, MAX_ANSWER_CHARS)]

    def _started(self, tool: Tool, call: Call) -> "asyncio.Future[str]":
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        thread = threading.Thread(target=self._run, args=(tool, call, said), name=f"tool {call.tool}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no thread left
            log.warning("tool_failed", tool=call.tool, error=repr(error)[:500])
            self._settle(said, f"error: {call.tool} failed")
        return said

    def _run(self, tool: Tool, call: Call, said: "asyncio.Future[str]") -> None:
        try:
            answer = str(tool(call.argument))
        except Exception as error:  # noqa: BLE001  a tool that keeps its promise raises nothing; the path goes on without it
            log.warning("tool_failed", tool=call.tool, error=repr(error)[:500])
            answer = f"error: {call.tool} failed"
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            said.get_loop().call_soon_threadsafe(self._settle, said, answer)

    def _settle(self, said: "asyncio.Future[str]", answer: str) -> None:
        self._threads.release()
        if not said.done():
            said.set_result(answer)
