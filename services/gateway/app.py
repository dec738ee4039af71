"""The web application: its routes, and what every answer has in common."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from conclave.errors import LostDependency
from conclave.store.reader import Reader
from services.gateway.errors import ApiError, away
from services.gateway.failures import Failures
from services.gateway.headers import SecureHeaders
from services.gateway.limits import Limits
from services.gateway.settings import GatewaySettings

_PAGES = "services.gateway.pages"


def make_app(settings: GatewaySettings, reader: Reader, api: Sequence[BaseRoute] = ()) -> Starlette:
    """The application over the record: the routes of the API, and the pages."""
    return Starlette(
        routes=[*api, *_pages(reader)],
        middleware=[Middleware(SecureHeaders), Middleware(Failures), Middleware(Limits, settings)],
        exception_handlers={
            ApiError: _told,
            LostDependency: _away,
            HTTPException: _refused,
        },
    )


def _pages(reader: Reader) -> list[BaseRoute]:
    """The pages and their static files, where they are installed."""
    if importlib.util.find_spec(_PAGES) is None:
        return [Route("/", _nothing_here)]
    package = importlib.import_module(_PAGES)
    static = Path(str(package.__file__)).parent / "static"
    files = [Mount("/static", StaticFiles(directory=static), name="static")] if static.is_dir() else []
    return [*files, *package.routes(reader)]


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
