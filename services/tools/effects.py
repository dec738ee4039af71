"""Tools of MCP servers with an effect, as the handler calls them."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from conclave.tools.mcp_servers import McpServer, McpTool, tools_of

Calling = Callable[[McpTool, str, Mapping[str, str]], Coroutine[Any, Any, str]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class McpEffect:
    """One tool of a server; `calling` makes the call. What it raises, or takes too long for, is a failure."""

    tool: McpTool
    server: McpServer
    calling: Calling

    @property
    def needs_approval(self) -> bool:
        """As the file has it."""
        return self.server.needs_approval

    @property
    def knows_keys(self) -> bool:
        """True where the file names the argument that takes them."""
        return bool(self.server.key_argument)

    async def call(self, argument: str, key: str) -> str:
        """What the tool observed; `error: …` where it failed."""
        more = {self.server.key_argument: key} if self.server.key_argument else {}
        try:
            async with asyncio.timeout(self.server.limit_s):
                return (await self.calling(self.tool, argument, more))[: self.server.max_answer_chars]
        except TimeoutError:
            return f"error: no answer within {self.server.limit_s:g} s: whether it had its effect is not known"
        except Exception as error:  # noqa: BLE001  whatever is the matter over there, the step has its verdict
            log.warning("tool_failed", tool=self.tool.name, error=repr(error)[:500])
            return f"error: {self.tool.name} failed"


def effects_of(servers: dict[str, McpServer], calling: Mapping[str, Calling]) -> dict[str, McpEffect]:
    """The tools of these servers by the names that policies grant them by; `calling` has who calls each server."""
    return {each.name: McpEffect(each, servers[each.server], calling[each.server]) for each in tools_of(servers)}
