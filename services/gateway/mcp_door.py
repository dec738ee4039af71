"""`/mcp`: the tools over HTTP, with the keys of the API. Nothing is kept between two calls, so any gateway takes any of them.

The protocol's library is imported with the first call: that takes as long as the rest of a gateway's start.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from conclave.domain import api_keys
from conclave.errors import LostDependency
from services.gateway.access import Access
from services.gateway.errors import ApiError, away
from services.gateway.failures import internal_error, surviving
from services.gateway.streams import ending_with_its_client

Served = Callable[[ASGIApp, str], AbstractAsyncContextManager[ASGIApp]]


class McpDoor:
    """The route, and what runs beside it."""

    def __init__(self, access: Access, version: str) -> None:
        self._access, self._version = access, version
        self._is_wanted = asyncio.Event()
        self._endpoint: asyncio.Future[ASGIApp] | None = None  # there while `serving`

    @property
    def routes(self) -> list[BaseRoute]:
        """What the application mounts."""
        return [Route("/mcp", self)]

    @asynccontextmanager
    async def serving(self, app: ASGIApp) -> AsyncIterator[None]:
        """As long as it is open, calls are served. Tools call the API of `app`, the whole application."""
        self._endpoint = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._serve(app, self._endpoint), name="mcp")
            yield
            task.cancel()

    async def _serve(self, app: ASGIApp, endpoint: asyncio.Future[ASGIApp]) -> None:
        await self._is_wanted.wait()
        with surviving("mcp_broken"):
            served = await asyncio.to_thread(_imported)
            async with served(app, self._version) as application:
                endpoint.set_result(application)
                await asyncio.Event().wait()  # until it is cancelled
        if not endpoint.done():  # as with another version of the library than ours
            endpoint.set_exception(internal_error())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands a call on, or says why not."""
        try:
            (await self._access.caller(Request(scope))).require(api_keys.Scope.ASK)
            app = await self._opened()
        except ApiError as error:
            await error.response()(scope, receive, send)
        except LostDependency as error:
            await away(error.dependency).response()(scope, receive, send)
        else:
            await ending_with_its_client(app, scope, receive, send)

    async def _opened(self) -> ASGIApp:
        assert self._endpoint is not None
        self._is_wanted.set()
        return await asyncio.shield(self._endpoint)


def _imported() -> Served:
    from services.gateway.mcp_served import served

    return served
