"""The tools as a web application of the protocol's library, which imports slowly: only services.gateway.mcp_door imports this."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Route
from starlette.types import ASGIApp

from services.gateway.mcp_tools import tool_server

_TIMEOUT_S = 60.0
_SENT_ON = ("authorization", "x-api-key")


@asynccontextmanager
async def served(api: ASGIApp, version: str) -> AsyncIterator[ASGIApp]:
    """What takes the protocol's calls as long as this is open. The tools call `api` with the key of who calls them."""

    def client(context: Context[Any, Any]) -> httpx2.AsyncClient:
        request = context.request_context.request
        assert request is not None
        headers = {name: request.headers[name] for name in _SENT_ON if name in request.headers}
        transport = httpx2.ASGITransport(app=api)
        return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers, timeout=_TIMEOUT_S)

    server = tool_server(client, version)
    # Who calls is checked by our own access, which knows the same dangers (DNS rebinding, other sites' pages).
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    # Answers come as events where they take long: with progress, and kept alive on their way through proxies.
    application = server.streamable_http_app(stateless_http=True, json_response=False, transport_security=unchecked)
    (route,) = application.routes
    assert isinstance(route, Route)
    async with server.session_manager.run():
        yield route.endpoint
