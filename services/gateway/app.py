"""The web application: its routes, and what every answer has in common."""

import importlib
import importlib.util
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router

from conclave.errors import LostDependency
from conclave.policies import shipped
from conclave.runtime.client import TopicState
from conclave.store.learning import Learning
from conclave.store.reader import Reader
from conclave.store.reviews import Reviews
from schemas.events import Event
from services.gateway import openapi
from services.gateway.access import Access
from services.gateway.asking import Asking
from services.gateway.errors import ApiError, away
from services.gateway.failures import Failures
from services.gateway.headers import SecureHeaders
from services.gateway.letters import Letters
from services.gateway.limits import Limits
from services.gateway.routes import ApiRoute, mounted
from services.gateway.settings import GatewaySettings
from services.gateway.signing_in import PagesGuard, signing_in

_PAGES = "services.gateway.pages"
_MAX_TENANTS = 256  # whose pages are kept in mind


@dataclass(frozen=True, slots=True)
class Site:
    """What the application serves besides its table of routes."""

    access: Access
    reader: Reader
    asking: Asking
    others: Sequence[BaseRoute] = ()
    topics: Callable[[], Awaitable[Sequence[TopicState]]] | None = None  # how the log does
    policies: Callable[[], Sequence[str]] = lambda: shipped().names
    trials: Learning | None = None  # what experiments were started, and what they have shown
    reviews: Reviews | None = None  # the queue that experts work at
    letters: Letters | None = None  # what no service could handle


def make_app(settings: GatewaySettings, site: Site, table: Sequence[ApiRoute]) -> Starlette:
    """The application: the API's table, its description, and the pages."""
    return framed([*mounted(table, site.access), _described(table), *site.others, *_pages(site, settings)], settings)


def framed(routes: Sequence[BaseRoute], settings: GatewaySettings) -> Starlette:
    """These routes, with what every answer of the gateway has in common."""
    return Starlette(
        routes=list(routes),
        middleware=[Middleware(SecureHeaders), Middleware(Failures), Middleware(Limits, settings)],
        exception_handlers={ApiError: _told, LostDependency: _away, HTTPException: _refused},
    )


def _described(table: Sequence[ApiRoute]) -> Route:
    told = msgspec.json.encode(openapi.document(table, version("conclave")))

    async def described(request: Request) -> Response:
        return Response(told, media_type="application/json")

    return Route("/openapi.json", described)


def _pages(site: Site, settings: GatewaySettings) -> list[BaseRoute]:
    """The pages and their static files, where they are installed; once there are keys, a tenant sees only its own."""
    if importlib.util.find_spec(_PAGES) is None:
        return [Route("/", _nothing_here)]
    package = importlib.import_module(_PAGES)
    static = Path(str(package.__file__)).parent / "static"
    files = [Mount("/static", package.KeptFiles(directory=static), name="static")] if static.is_dir() else []

    async def publish(event: Event) -> None:
        await site.asking.publish_for_page(event)

    read = {
        "topics": site.topics,
        "policies": site.policies,
        "trials": site.trials,
        "desk": site.reviews,
        "letters": site.letters,
    }
    pages = Router(package.routes(site.reader, publish, **read))

    @lru_cache(maxsize=_MAX_TENANTS)
    def of_tenant(tenant: str) -> Router:
        return Router(package.tenant_routes(site.reader, tenant))

    return [
        *files,
        *signing_in(site.access, settings.gateway_secure_cookie),
        Mount("/", PagesGuard(pages, site.access, of_tenant)),
    ]


async def _nothing_here(request: Request) -> Response:
    return PlainTextResponse("Conclave's gateway. See docs/how-to/use-the-api.md.\n")


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _away(request: Request, error: Exception) -> Response:
    assert isinstance(error, LostDependency)
    return away(error.dependency).response()


async def _refused(request: Request, error: Exception) -> Response:
    """Starlette's own refusals (no such route, no such method), in the shape of all others."""
    assert isinstance(error, HTTPException)
    words = {404: "there is nothing at this address", 405: "this address does not take this method"}
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    message = words.get(error.status_code, error.detail)
    return ApiError(error.status_code, message, code, headers=error.headers or {}).response()
