"""Who calls, and what they may do.

While no key was ever made, a gateway that listens on the loopback interface takes everyone there for the tenant `local` with
every scope; one that listens elsewhere takes nobody. From the first key on, everyone needs one (decision 0032).
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from starlette.requests import HTTPConnection

from conclave.domain.api_keys import ApiKey, Scope
from conclave.store.accounts import Account
from conclave.store.ledger import Limits
from services.gateway.errors import ApiError

COOKIE = "conclave_key"
_READING = ("GET", "HEAD")
_REMEMBERED_S = 5.0  # a revoked key goes on for so long at most
_REMEMBERED = 10_000


class AccountSource(Protocol):
    """Where keys are looked up: conclave.store.accounts.Accounts. Both raise LostDependency."""

    async def find(self, key_id: str) -> Account | None: ...
    async def has_keys(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    tenant: str
    scopes: frozenset[Scope]
    key_id: str | None = None
    limits: Limits = Limits()
    is_redacted: bool = True
    is_kept: bool = True  # the words of its requests, in the record
    most_urgent: str = "interactive"  # class of priority that its requests may have

    @property
    def is_admin(self) -> bool:
        """True for who may see every tenant's."""
        return Scope.ADMIN in self.scopes

    def require(self, scope: Scope) -> None:
        """Raises: ApiError when the caller may not do this."""
        if scope not in self.scopes and not self.is_admin:
            raise ApiError(403, f"this key lacks the scope `{scope.value}`", "missing_scope")


LOCAL = Caller("local", frozenset(Scope))


class Access:
    """Tells who calls. What was looked up is remembered for a few seconds."""

    def __init__(self, accounts: AccountSource, *, host: str) -> None:
        self._accounts, self._is_loopback = accounts, is_loopback(host)
        self._found: OrderedDict[str, tuple[float, Account | None]] = OrderedDict()
        self._has_keys, self._looked_at = False, float("-inf")

    async def caller(self, connection: HTTPConnection) -> Caller:
        """Who calls. Raises: ApiError for who is not let in, LostDependency."""
        sent = _sent(connection)
        key = ApiKey.parsed(sent) if sent else None
        if key is None and await self._is_open():  # clients that insist on a key may send any word
            check_local(connection)
            return LOCAL
        account = await self.account(key) if key else None
        if account is None:
            how = "send `Authorization: Bearer KEY`; `conclave keys create` makes a key"
            message, code = ("this key is not in force here", "invalid_api_key") if sent else (how, "missing_api_key")
            raise ApiError(401, message, code, headers={"WWW-Authenticate": "Bearer"})
        if _is_by_cookie(connection) and connection.scope.get("method") not in _READING and is_foreign(connection):
            raise ApiError(403, "what another site's page sends is not taken", "not_from_here")
        return Caller(
            account.tenant,
            account.scopes,
            account.key_id,
            account.limits,
            account.is_redacted,
            account.is_kept,
            account.most_urgent,
        )

    async def account(self, key: ApiKey) -> Account | None:
        """Whose this key is; None for one that is not in force, or not of this secret. Raises: LostDependency."""
        account = await self._account(key.key_id)
        return account if account is not None and key.is_of(account.digest) else None

    async def _account(self, key_id: str) -> Account | None:
        now = time.monotonic()
        when, account = self._found.get(key_id, (float("-inf"), None))
        if now - when > _REMEMBERED_S:
            account = await self._accounts.find(key_id)
            self._found[key_id] = (now, account)
            self._found.move_to_end(key_id)
            if len(self._found) > _REMEMBERED:
                self._found.popitem(last=False)
        return account

    async def _is_open(self) -> bool:
        """True while nobody needs a key: none was ever made."""
        if not self._is_loopback or self._has_keys:
            return False
        now = time.monotonic()
        if now - self._looked_at > _REMEMBERED_S:
            self._has_keys = await self._accounts.has_keys()
            self._looked_at = now
        return not self._has_keys


def is_loopback(host: str) -> bool:
    """True for a host that only this machine reaches."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_local(connection: HTTPConnection) -> None:
    """Raises: ApiError for what does not come from this machine by a person's own hand.

    A page of another site can have a browser call the loopback interface, under that name or under one that it made point
    here; and a proxy would bring in the world.
    """
    headers = connection.headers
    host = _host(headers.get("host", ""))
    if not is_loopback(host) or is_foreign(connection) or "x-forwarded-for" in headers or "forwarded" in headers:
        message = (
            "without a key, only this machine's own programs and pages are served; `conclave keys create` makes a key"
        )
        raise ApiError(403, message, "not_local")


def is_foreign(connection: HTTPConnection) -> bool:
    """True for what a browser sends for a page of another origin: one on another port of this machine, too, has our cookie."""
    headers = connection.headers
    origin = headers.get("origin")
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin") or (
        origin is not None and origin.partition("://")[2] != headers.get("host")
    )


def _host(authority: str) -> str:
    """The host of `host:port`."""
    host, has_port, port = authority.rpartition(":")
    return host if has_port and port.isdigit() else authority


def _sent(connection: HTTPConnection) -> str | None:
    """The key that a client sends: as a bearer's, as a header of its own, or in the cookie of who signed in to the pages."""
    return _in_header(connection) or connection.cookies.get(COOKIE)


def _in_header(connection: HTTPConnection) -> str | None:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return connection.headers.get("x-api-key")


def _is_by_cookie(connection: HTTPConnection) -> bool:
    """True for a key that a browser sends of itself, whoever's page asks it to."""
    return _in_header(connection) is None
