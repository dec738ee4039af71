"""The pages' door: who shows a key is given a pass, which the browser keeps where no script and no other site can use it.

The key itself is kept nowhere. An administrator's opens all pages, a tenant's those of what it asked itself (decision 0064).
"""

import html
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, TypedDict

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conclave.domain import api_keys
from conclave.errors import LostDependency
from services.gateway.access import COOKIE, SIGNED_IN, Access, Caller, is_foreign, is_on_loopback
from services.gateway.errors import ApiError, away

_MAX_FIELDS = 2
_FETCHED = "sec-fetch-site"  # browsers send it over TLS, and to this machine
_SIGN_IN = "Sign in with a key; `conclave keys create --tenant ops --scope admin` makes one."
_OVER_HTTP = (
    "This page seems to have come over http, where your browser keeps no pass. Open it over https; where there is none, and the"
    " network may see what opens the pages, set CONCLAVE_GATEWAY_SECURE_COOKIE=never for the gateway."
)
# A form of another site would sign its visitors out, or in with a key of its own.
_NOT_FROM_HERE = "What another site's page sends is not taken."
Secure = Literal["auto", "always", "never"]
_OPENING = {api_keys.Scope.ADMIN, api_keys.Scope.ASK}
_FORM = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Conclave: sign in</title><link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/pages.css">
<script src="/static/theme.js"></script></head>
<body><main class="door"><h1>Conclave</h1><p class="lead">{told}</p>
<form method="post" action="/sign-in">
<label><span>Key with the scope <code>admin</code>, or <code>ask</code> for your own requests</span>
<input type="password" name="key" autocomplete="current-password" required></label>
<button class="button primary">Sign in</button></form></main></body></html>
"""


class _Kept(TypedDict):
    httponly: bool
    samesite: Literal["strict"]
    secure: bool


class _LetInNoMore(Exception):
    """Who reads a page that is sent bit by bit may not any more."""


class PagesGuard:
    """The pages: all for who may see every tenant's requests, and for everyone on this machine while nobody needs a key.

    For a tenant those of its own: a router that knows of nothing else, by the tenant of the key. A page that is sent bit by bit
    ends within seconds of its reader's key or sign-in.
    """

    def __init__(self, pages: Router, access: Access, of_tenant: Callable[[str], Router] | None = None) -> None:
        self._pages, self._access, self._of_tenant = pages, access, of_tenant

    @property
    def routes(self) -> list[BaseRoute]:
        """What lies behind the door."""
        return self._pages.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, or shows the door."""
        app: ASGIApp = self._pages
        request = Request(scope)
        try:
            caller = await self._access.caller(request)
            app = self._opened(caller, scope)
            scope.setdefault("state", {})["caller"] = caller  # for what notes who did it
            scope["is_signed_in"] = COOKIE in request.cookies  # pages offer to sign out then
            app = self._while_let_in(app, request)
        except ApiError as error:
            app = _refused(request, error)
        except LostDependency as error:
            app = away(error.dependency).response()
        await app(scope, receive, send)

    def _while_let_in(self, app: ASGIApp, request: Request) -> ASGIApp:
        """The application, of which nothing more is sent once this is not its reader's any more. Else who was let in stays so."""

        async def answering(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                if message.get("more_body", False):
                    with suppress(LostDependency):
                        await self._check(request, scope)
                await send(message)

            try:
                await app(scope, receive, sending)
            except _LetInNoMore:
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        return answering

    async def _check(self, request: Request, scope: Scope) -> None:
        try:
            self._opened(await self._access.caller(request), scope)
        except ApiError as error:
            raise _LetInNoMore from error

    def _opened(self, caller: Caller, scope: Scope) -> ASGIApp:
        """Where a caller is led. Raises: ApiError for who may not see this page."""
        if not caller.is_admin and self._of_tenant is not None and api_keys.Scope.ASK in caller.scopes:
            own = self._of_tenant(caller.tenant)
            if any(route.matches(scope)[0] is Match.FULL for route in own.routes):
                return own
        caller.require(api_keys.Scope.ADMIN)
        return self._pages


def signing_in(access: Access, secure: Secure) -> list[BaseRoute]:
    """The routes of the door. `secure` says when browsers may send the cookie over TLS only."""

    async def shown(request: Request) -> Response:
        return _door(_SIGN_IN, 200)

    async def sign_in(request: Request) -> Response:
        if is_foreign(request):
            return _door(_NOT_FROM_HERE, 403)
        form = await request.form(max_files=0, max_fields=_MAX_FIELDS)
        key = api_keys.ApiKey.parsed(str(form.get("key", "")).strip())
        account = await access.account(key) if key else None
        if key is None or account is None or not _OPENING & account.scopes:
            return _door("This key does not open the pages.", 401)
        kept = _kept(request, secure)
        is_over_http = kept["secure"] and _FETCHED not in request.headers and not is_on_loopback(request)
        response = _door(_OVER_HTTP, 200) if is_over_http else RedirectResponse("/", status_code=303)
        await access.sign_out(request)  # what this browser held before
        given = await access.sign_in(account)
        response.set_cookie(COOKIE, given.secret, max_age=round(SIGNED_IN.total_seconds()), **kept)
        return response

    async def sign_out(request: Request) -> Response:
        if is_foreign(request):
            return _door(_NOT_FROM_HERE, 403)
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


def _refused(request: Request, error: ApiError) -> Response:
    """The door; for a page that is there already, and asks for a part of itself, the way to it."""
    if request.headers.get("hx-request") == "true":
        return Response(status_code=error.status, headers={"HX-Redirect": "/sign-in"})
    return _door(_SIGN_IN if error.code == "missing_api_key" else error.message, error.status)


def _door(told: str, status: int) -> Response:
    # As pages have it: without a referrer, the form would come without its origin.
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(told))
    return HTMLResponse(_FORM.format(told=marked), status, headers={"Referrer-Policy": "same-origin"})
