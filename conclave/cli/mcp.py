"""`conclave mcp`: the gateway's tools on standard input and output, for programs that start their tools themselves."""

import asyncio
import os
from importlib.metadata import version
from importlib.util import find_spec

import click

from conclave.cli.endpoints import find

URL, KEY = "CONCLAVE_URL", "CONCLAVE_API_KEY"
_TIMEOUT_S = 60.0


@click.command()
def mcp() -> None:
    """Serve ask, trace, feedback, policies and experiments as MCP tools on standard input and output.

    They call the gateway at CONCLAVE_URL (default: this checkout's stack), with the key in CONCLAVE_API_KEY where one is needed.
    """
    if find_spec("mcp") is None:
        raise click.ClickException("the package `mcp` is missing: install conclave[mcp]")
    url = os.environ.get(URL) or find().web.get("gateway")
    if url is None:
        raise click.ClickException(f"no gateway is known here: start the stack with `conclave up`, or set {URL}")
    import httpx2

    from services.gateway.mcp_tools import tool_server

    key = os.environ.get(KEY)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    server = tool_server(
        lambda _: httpx2.AsyncClient(base_url=str(url), headers=headers, timeout=_TIMEOUT_S), version("conclave")
    )
    asyncio.run(server.run_stdio_async())
