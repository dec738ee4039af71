"""Who calls, and what they may do.

While no key was ever made, a gateway that listens on the loopback interface takes everyone there for the tenant `local` with
every scope; one that listens elsewhere takes nobody. From the first key on, everyone needs one (decision 0032).
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import Generic, Protocol, TypeVar

from starlette.requests import HTTPConnection

from conclave.domain.api_keys import SECRET_BYTES, ApiKey, Pass, Scope
from conclave.store.accounts import Account
from conclave.store.ledger import Limits
from services.gateway.errors import ApiError

COOKIE = "conclave_pass"
SIGNED_IN = timedelta(hours=12)
_READING = ("GET", "HEAD")
_BY_A_PROXY = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto")
_REMEMBERED_S = 5.0  # a revoked key goes on for so long at most
_REMEMBERED = 10_000
K = TypeVar("K")
V = TypeVar("V")


class AccountSource(Protocol):
    """Where keys are looked up: conclave.store.accounts.Accounts. Both raise LostDependency."""

    async def find(self, key_id: str) -> Account | None: ...
    async def has_keys(self) -> bool: ...


class SignInSource(Protocol):
    """Where it is noted who is signed in to the pages: conclave.store.sign_ins.SignIns. Each raises LostDependency."""

    async def begin(self, digest: bytes, key_id: str, lifetime: timedelta) -> None: ...
    async def key_of(self, digest: bytes) -> str | None: ...
    async def end(self, digest: bytes) -> None: ...


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


class _Remembered(Generic[K, V]):
    """What `look` finds, for a few seconds."""

    def __init__(self, look: Callable[[K], Awaitable[V]]) -> None:
        self._look = look
        self._found: OrderedDict[K, tuple[float, V]] = OrderedDict()

    async def get(self, key: K) -> V:
        """What it finds, or found a moment ago. Raises: what it raises."""
        now = time.monotonic()
        known = self._found.get(key)
        if known is not None and now - known[0] <= _REMEMBERED_S:
            return known[1]
        value = await self._look(key)
        self._found[key] = now, value
        self._found.move_to_end(key)
        if len(self._found) > _REMEMBERED:
            self._found.popitem(last=False)
        return value

    def forget(self, key: K) -> None:
        """Has it looked up the next time."""
        self._found.pop(key, None)


class Access:
    """Tells who calls. What was looked up is remembered for a few seconds."""

    def __init__(self, accounts: AccountSource, sign_ins: SignInSource, *, host: str) -> None:
        self._accounts, self._sign_ins, self._is_loopback = accounts, sign_ins, is_loopback(host)
        self._found, self._signed_in = _Remembered(accounts.find), _Remembered(sign_ins.key_of)
        self._has_keys, self._looked_at = False, float("-inf")

    async def caller(self, connection: HTTPConnection) -> Caller:
        """Who calls. Raises: ApiError for who is not let in, LostDependency."""
        sent = _in_header(connection)
        key = ApiKey.parsed(sent) if sent else None
        if key is None and await self._is_open():  # clients that insist on a key may send any word
            check_local(connection)
            return LOCAL
        account = await self.account(key) if key else None if sent else await self._of_browser(connection)
        if account is None:
            raise _unknown(sent, connection)
        # What a browser sends of itself, whoever's page asks it to.
        if not sent and connection.scope.get("method") not in _READING and is_foreign(connection):
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
        account = await self._found.get(key.key_id)
        return account if account is not None and key.is_of(account.digest) else None

    async def sign_in(self, account: Account) -> Pass:
        """What a browser may send instead of the account's key, as long as that is in force. Raises: LostDependency."""
        made = Pass.of(secrets.token_bytes(SECRET_BYTES))
        await self._sign_ins.begin(made.digest, account.key_id, SIGNED_IN)
        return made

    async def sign_out(self, connection: HTTPConnection) -> None:
        """Ends what a browser was given: at once here, within a few seconds at other gateways. Raises: LostDependency."""
        held = _in_cookie(connection)
        if held is not None:
            await self._sign_ins.end(held.digest)
            self._signed_in.forget(held.digest)

    async def _of_browser(self, connection: HTTPConnection) -> Account | None:
        """The account of who signed in. Raises: LostDependency."""
        held = _in_cookie(connection)
        key_id = await self._signed_in.get(held.digest) if held else None
        return await self._found.get(key_id) if key_id else None

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
    if not is_on_loopback(connection) or is_foreign(connection):
        message = (
            "without a key, only this machine's own programs and pages are served; `conclave keys create` makes a key"
        )
        raise ApiError(403, message, "not_local")


def is_on_loopback(connection: HTTPConnection) -> bool:
    """True for what was sent to the loopback interface by name, and came through no proxy that says so."""
    headers = connection.headers
    return is_loopback(_host(headers.get("host", ""))) and not any(name in headers for name in _BY_A_PROXY)


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


def _unknown(sent: str | None, connection: HTTPConnection) -> ApiError:
    """How someone without a key in force is told so."""
    if sent:
        message, code = "this key is not in force here", "invalid_api_key"
    elif COOKIE in connection.cookies:
        message, code = "you are not signed in any more", "invalid_api_key"
    else:
        message, code = "send `Authorization: Bearer KEY`; `conclave keys create` makes a key", "missing_api_key"
    return ApiError(401, message, code, headers={"WWW-Authenticate": "Bearer"})


def _in_cookie(connection: HTTPConnection) -> Pass | None:
    """What the browser of who signed in to the pages sends."""
    return Pass.parsed(connection.cookies.get(COOKIE, ""))


def _in_header(connection: HTTPConnection) -> str | None:
    """The key that a client sends: as a bearer's, or as a header of its own."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return connection.headers.get("x-api-key")
