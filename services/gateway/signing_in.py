"""The pages' door: an administrator's key, kept by the browser in a cookie that no script and no other site can use."""

import html

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from conclave.domain import api_keys
from conclave.errors import LostDependency
from services.gateway.access import COOKIE, Access
from services.gateway.errors import ApiError, away

_COOKIE_AGE_S = 12 * 3600
_MAX_FIELDS = 2
_FORM = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Conclave: sign in</title><link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/pages.css">
<script src="/static/theme.js"></script></head>
<body><main class="door"><h1>Conclave</h1><p class="lead">{told}</p>
<form method="post" action="/sign-in"><label><span>Key with the scope <code>admin</code></span>
<input type="password" name="key" autocomplete="current-password" required></label>
<button class="button primary">Sign in</button></form></main></body></html>
"""


class PagesGuard:
    """The pages, for who may see every tenant's requests. While nobody needs a key, for everyone on this machine."""

    def __init__(self, pages: Router, access: Access) -> None:
        self._pages, self._access = pages, access

    @property
    def routes(self) -> list[BaseRoute]:
        """What lies behind the door."""
        return self._pages.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, or shows the door."""
        app: ASGIApp = self._pages
        try:
            (await self._access.caller(Request(scope))).require(api_keys.Scope.ADMIN)
        except ApiError as error:
            app = _door(error.message, error.status)
        except LostDependency as error:
            app = away(error.dependency).response()
        await app(scope, receive, send)


def signing_in(access: Access) -> list[BaseRoute]:
    """The routes of the door."""

    async def shown(request: Request) -> Response:
        return _door("Sign in with a key.", 200)

    async def sign_in(request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=_MAX_FIELDS)
        key = api_keys.ApiKey.parsed(str(form.get("key", "")).strip())
        account = await access.account(key) if key else None
        if key is None or account is None or api_keys.Scope.ADMIN not in account.scopes:
            return _door("This key does not open the pages.", 401)
        response = RedirectResponse("/", status_code=303)
        is_secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, key.text, max_age=_COOKIE_AGE_S, httponly=True, samesite="strict", secure=is_secure)
        return response

    async def sign_out(request: Request) -> Response:
        response = RedirectResponse("/sign-in", status_code=303)
        response.delete_cookie(COOKIE)
        return response

    return [
        Route("/sign-in", shown),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
    ]


def _door(told: str, status: int) -> Response:
    return HTMLResponse(_FORM.format(told=html.escape(told)), status)
