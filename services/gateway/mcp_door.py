"""`/mcp`: the tools over HTTP, with the keys of the API. Nothing is kept between two calls, so any gateway takes any of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from conclave.domain import api_keys
from conclave.errors import LostDependency
from services.gateway.access import Access
from services.gateway.errors import ApiError, away
from services.gateway.mcp_tools import tool_server

_TIMEOUT_S = 60.0
_SENT_ON = ("authorization", "x-api-key")


class McpDoor:
    """The route, and what runs beside it."""

    def __init__(self, access: Access, version: str) -> None:
        self._access = access
        self._app: ASGIApp | None = None
        self._server = tool_server(self._client, version)
        # Who calls is checked by our own access, which knows the same dangers (DNS rebinding, other sites' pages).
        unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        served = self._server.streamable_http_app(stateless_http=True, json_response=True, transport_security=unchecked)
        (route,) = served.routes
        assert isinstance(route, Route)
        self._endpoint: ASGIApp = route.endpoint

    @property
    def routes(self) -> list[BaseRoute]:
        """What the application mounts."""
        return [Route("/mcp", self)]

    @asynccontextmanager
    async def serving(self, app: ASGIApp) -> AsyncIterator[None]:
        """As long as it is open, calls are served. Tools call the API of `app`, the whole application."""
        self._app = app
        async with self._server.session_manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands a call on, or says why not."""
        app = self._endpoint
        try:
            (await self._access.caller(Request(scope))).require(api_keys.Scope.ASK)
        except ApiError as error:
            app = error.response()
        except LostDependency as error:
            app = away(error.dependency).response()
        await app(scope, receive, send)

    def _client(self, context: Context[Any, Any]) -> httpx2.AsyncClient:
        """A client of our own API, with the key of who calls."""
        assert self._app is not None
        request = context.request_context.request
        assert request is not None
        headers = {name: request.headers[name] for name in _SENT_ON if name in request.headers}
        transport = httpx2.ASGITransport(app=self._app)
        return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers, timeout=_TIMEOUT_S)
