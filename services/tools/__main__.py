"""`python -m services.tools`."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from conclave.errors import LostDependency
from conclave.runtime.attempts import Dependencies
from conclave.runtime.kafka import Kafka
from conclave.runtime.process import Parts, main
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings, load
from conclave.runtime.work import Handles
from conclave.store.tool_ledger import ToolLedger
from conclave.tools import mcp_servers
from conclave.tools.mcp_servers import McpServer
from services.tools.effects import McpEffect, effects_of
from services.tools.handler import ToolCaller
from services.tools.settings import ToolsSettings

_FORGET_EVERY_S = 3600.0


@asynccontextmanager
async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
    """The caller with its ledger; a server is started at its first call."""
    own = load(ToolsSettings)
    servers = mcp_servers.with_effects(mcp_servers.read(own.mcp_servers))
    mcp_servers.check_values(servers)
    ledger = ToolLedger(own.postgres_dsn)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(ledger.close)
        caller = ToolCaller(_tools(servers, stack), ledger)
        async with asyncio.TaskGroup() as tasks:
            forgetting = tasks.create_task(_forget(ledger), name="forget")
            yield Parts(Service("tools", settings, Handles(caller), dependencies, Kafka(settings.brokers)))
            forgetting.cancel()


async def _forget(ledger: ToolLedger) -> None:
    """Drops what is so old that it must not be there any more, at the start and each hour."""
    while True:
        with contextlib.suppress(LostDependency):  # an hour later does as well
            await ledger.forget()
        await asyncio.sleep(_FORGET_EVERY_S)


def _tools(servers: dict[str, McpServer], stack: AsyncExitStack) -> dict[str, McpEffect]:
    if not servers:
        return {}
    from conclave.tools.mcp_client import McpClient

    clients = {name: McpClient(name, server) for name, server in servers.items()}
    for client in clients.values():
        stack.push_async_callback(client.stop)
    return effects_of(servers, {name: client.call for name, client in clients.items()})


if __name__ == "__main__":
    sys.exit(main("tools", compose, ToolsSettings))
