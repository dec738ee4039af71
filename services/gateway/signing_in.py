"""The pages' door: who shows an administrator's key is given a pass, which the browser keeps where no script and no other site
can use it. The key itself is kept nowhere."""

import html
from typing import Literal, TypedDict

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from conclave.domain import api_keys
from conclave.errors import LostDependency
from services.gateway.access import COOKIE, SIGNED_IN, Access, is_on_loopback
from services.gateway.errors import ApiError, away

_MAX_FIELDS = 2
_FETCHED = "sec-fetch-site"  # browsers send it over TLS, and to this machine
_SIGN_IN = "Sign in with a key; `conclave keys create --tenant ops --scope admin` makes one."
_OVER_HTTP = (
    "This page seems to have come over http, where your browser keeps no pass. Open it over https; where there is none, and the"
    " network may see what opens the pages, set CONCLAVE_GATEWAY_SECURE_COOKIE=never for the gateway."
)
Secure = Literal["auto", "always", "never"]
_FORM = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Conclave: sign in</title><link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/pages.css">
<script src="/static/theme.js"></script></head>
<body><main class="door"><h1>Conclave</h1><p class="lead">{told}</p>
<form method="post" action="/sign-in"><label><span>Key with the scope <code>admin</code></span>
<input type="password" name="key" autocomplete="current-password" required></label>
<button class="button primary">Sign in</button></form></main></body></html>
"""


class _Kept(TypedDict):
    httponly: bool
    samesite: Literal["strict"]
    secure: bool


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
        request = Request(scope)
        try:
            (await self._access.caller(request)).require(api_keys.Scope.ADMIN)
            scope["is_signed_in"] = COOKIE in request.cookies  # pages offer to sign out then
        except ApiError as error:
            app = _door(_SIGN_IN if error.code == "missing_api_key" else error.message, error.status)
        except LostDependency as error:
            app = away(error.dependency).response()
        await app(scope, receive, send)


def signing_in(access: Access, secure: Secure) -> list[BaseRoute]:
    """The routes of the door. `secure` says when browsers may send the cookie over TLS only."""

    async def shown(request: Request) -> Response:
        return _door(_SIGN_IN, 200)

    async def sign_in(request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=_MAX_FIELDS)
        key = api_keys.ApiKey.parsed(str(form.get("key", "")).strip())
        account = await access.account(key) if key else None
        if key is None or account is None or api_keys.Scope.ADMIN not in account.scopes:
            return _door("This key does not open the pages.", 401)
        kept = _kept(request, secure)
        is_over_http = kept["secure"] and _FETCHED not in request.headers and not is_on_loopback(request)
        response = _door(_OVER_HTTP, 200) if is_over_http else RedirectResponse("/", status_code=303)
        given = await access.sign_in(account)
        response.set_cookie(COOKIE, given.secret, max_age=round(SIGNED_IN.total_seconds()), **kept)
        return response

    async def sign_out(request: Request) -> Response:
        await access.sign_out(request)
        response = RedirectResponse("/sign-in", status_code=303)
        response.delete_cookie(COOKIE, **_kept(request, secure))
        return response

    return [
        Route("/sign-in", shown),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
    ]


def _kept(request: Request, secure: Secure) -> _Kept:
    """How a browser is to keep the cookie. TLS ends at a proxy before us, so by default the address tells whether there is any."""
    is_secure = secure == "always" or (secure == "auto" and not is_on_loopback(request))
    return {"httponly": True, "samesite": "strict", "secure": is_secure}


def _door(told: str, status: int) -> Response:
    return HTMLResponse(_FORM.format(told=html.escape(told)), status)
