"""`python -m services.decoder`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from conclave.engine import ENGINES
from conclave.engine.trouble import Trouble
from conclave.prompts.current import CurrentPrompts
from conclave.runtime.attempts import Dependencies
from conclave.runtime.kafka import Kafka
from conclave.runtime.process import Parts, main
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings, load
from conclave.runtime.work import Handles
from conclave.tools import TOOLS, mcp_servers
from conclave.tools.mcp_servers import McpServer
from conclave.tools.remote import RemoteTool
from conclave.tools.toolbox import Toolbox
from services.decoder.handler import Decoder
from services.decoder.settings import DecoderSettings


@asynccontextmanager
async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
    """The decoder with its engine running: the group is joined only once paths can be decoded."""
    own = load(DecoderSettings)
    servers = mcp_servers.read(own.mcp_servers)
    mcp_servers.declare(servers)
    mcp_servers.check_values(_of_paths(servers))
    prompt_sets = CurrentPrompts(own.prompts_dir, tools=TOOLS)
    # In a thread: what an engine imports takes up to twenty seconds, and signals must be heard meanwhile.
    engine = await asyncio.to_thread(ENGINES[own.engine], own.options())

    def hear(trouble: Trouble | None) -> None:
        if trouble is None:
            dependencies.back("engine")
        else:
            dependencies.lost("engine", str(trouble))

    await engine.start(hear)
    try:
        async with _toolbox(own.postgres_dsn, servers) as toolbox:
            decoder = Decoder(
                engine,
                kv_cache_use_limit=own.kv_cache_use_limit,
                find_prompts=prompt_sets.find,
                look_again=prompt_sets.refresh,
                toolbox=toolbox,
                weights=own.priority_weights,
                min_running=own.min_running,
            )
            service = Service(
                "decoder",
                settings.model_copy(update={"max_in_flight": own.max_in_flight}),
                Handles(decoder, may_take=decoder.may_take, drain=decoder.drain, hand_on=decoder.hand_on),
                dependencies,
                Kafka(settings.brokers),
            )
            following = asyncio.create_task(prompt_sets.follow(), name="prompts")
            yield Parts(service, listener=decoder, status=lambda: decoder.status() | prompt_sets.status())
            following.cancel()
            await asyncio.wait({following})
    finally:
        await engine.stop()


@asynccontextmanager
async def _toolbox(dsn: str | None, servers: dict[str, McpServer]) -> AsyncIterator[Toolbox]:
    """The tools that paths may call: those of the table, an operator's documents, and the tools of MCP servers."""
    remote: dict[str, RemoteTool] = {}
    async with AsyncExitStack() as stack:
        if dsn is not None:
            from conclave.store.documents import Documents

            documents = Documents(dsn)
            stack.push_async_callback(documents.close)
            remote["documents"] = RemoteTool(documents.look_up)
        own = _of_paths(servers)
        if own:
            from conclave.tools.mcp_client import remote_tools

            tools, clients = remote_tools(own)
            remote |= tools
            for client in clients:
                stack.push_async_callback(client.stop)
        yield Toolbox(remote=remote)


def _of_paths(servers: dict[str, McpServer]) -> dict[str, McpServer]:
    return {name: server for name, server in servers.items() if not server.effects}


if __name__ == "__main__":
    sys.exit(main("decoder", compose, DecoderSettings))
