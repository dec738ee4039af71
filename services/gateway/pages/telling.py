"""What a visitor is told while the record is away: words in a page, where a program is told in JSON."""

from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conclave.errors import LostDependency
from services.gateway.pages.rendering import problem

_RETRY_AFTER_S = 2
_NAMES = {"postgres": "The record", "kafka": "The log"}
Endpoint = Callable[[Request], Awaitable[Response]]


def telling(routes: Sequence[BaseRoute]) -> list[BaseRoute]:
    """The same routes. Where one of them loses what it stands on, its visitor reads so."""
    return [_telling(route) if isinstance(route, Route) else route for route in routes]


def _telling(route: Route) -> Route:
    endpoint: Endpoint = route.endpoint

    async def told(request: Request) -> Response:
        try:
            return await endpoint(request)
        except LostDependency as error:
            name = _NAMES.get(error.dependency, error.dependency)
            response = problem(request, 503, f"{name} is away", "Nothing is lost. Try again in a moment.")
            response.headers["Retry-After"] = str(_RETRY_AFTER_S)
            return response

    return Route(route.path, told, methods=list(route.methods or ()))
