"""Tenants and their API keys, and who changed them: for the gateway, which looks keys up, and for `conclave keys`."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from conclave.domain.api_keys import ID_BYTES, SECRET_BYTES, ApiKey, Scope
from conclave.errors import Rejected
from conclave.store.connection import lost_when_away, make_engine
from conclave.store.ledger import Limits

_COLUMNS = "key_id, tenant, label, scopes, created_at, expires_at, revoked_at"
_FIND = text("""
    SELECT k.key_id, k.tenant, k.digest, k.scopes, t.rate_per_minute, t.max_open, t.tokens_per_day, t.is_redacted, t.content,
           t.most_urgent
    FROM api_keys k JOIN tenants t USING (tenant)
    WHERE k.key_id = :key_id AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
""")
_ANY = text("SELECT EXISTS (SELECT 1 FROM api_keys)")
_CREATE = text("""
    INSERT INTO api_keys (key_id, tenant, digest, scopes, label, expires_at)
    VALUES (:key_id, :tenant, :digest, :scopes, :label, now() + CAST(:lifetime AS interval))
""")
# Of a limit NULL leaves it as it is, and 0 takes it away. Whoever's limits are changed waits for none that was.
_TENANT = text("""
    INSERT INTO tenants (tenant, rate_per_minute, max_open, tokens_per_day, is_redacted, content, most_urgent)
    VALUES (
        :tenant, nullif(CAST(:rate_per_minute AS integer), 0), nullif(CAST(:max_open AS integer), 0),
        nullif(CAST(:tokens_per_day AS bigint), 0), coalesce(:is_redacted, true), coalesce(:content, 'kept'),
        coalesce(:most_urgent, 'interactive')
    )
    ON CONFLICT (tenant) DO UPDATE SET
        rate_per_minute = nullif(coalesce(CAST(:rate_per_minute AS integer), tenants.rate_per_minute), 0),
        max_open = nullif(coalesce(CAST(:max_open AS integer), tenants.max_open), 0),
        tokens_per_day = nullif(coalesce(CAST(:tokens_per_day AS bigint), tenants.tokens_per_day), 0),
        waits_until = CASE WHEN CAST(:tokens_per_day AS bigint) IS NULL THEN tenants.waits_until END,
        is_redacted = coalesce(:is_redacted, tenants.is_redacted),
        content = coalesce(:content, tenants.content),
        most_urgent = coalesce(:most_urgent, tenants.most_urgent)
""")
_UNCHANGED: dict[str, Any] = dict.fromkeys(
    ("rate_per_minute", "max_open", "tokens_per_day", "is_redacted", "content", "most_urgent")
)
_TENANTS = text("""
    SELECT t.tenant, t.rate_per_minute, t.max_open, t.tokens_per_day, (
               SELECT coalesce(sum(coalesce(g.tokens, a.tokens_out, 0)), 0) FROM gateway_requests g
               LEFT JOIN answers a ON a.asked_at = g.asked_at AND a.request_id = g.request_id
               WHERE g.tenant = t.tenant AND g.created_at > now() - interval '24 hours')::bigint AS tokens_24_h,
           t.is_redacted, t.content, t.most_urgent
    FROM tenants t ORDER BY t.tenant
""")
_ROLE = text("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = :role)")
_TENANT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_MAX_ROLE_CHARS = 63
_NO_PRIVILEGE = "42501"
_REPLACED = text("SELECT detail ->> 'new' FROM key_changes WHERE key_id = :id AND action = 'rotate' LIMIT 1")
_NOTE = text("""
    INSERT INTO key_changes (actor, action, tenant, key_id, detail) VALUES (:actor, :action, :tenant, :key_id, :detail)
""")


@dataclass(frozen=True, slots=True)
class Account:
    """Whose a key is, and what it lets its holder do."""

    key_id: str
    tenant: str
    scopes: frozenset[Scope]
    limits: Limits
    is_redacted: bool
    is_kept: bool  # the words of its requests, in the record
    most_urgent: str  # class of priority that its requests may have
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as lists show it: everything but its secret."""

    key_id: str
    tenant: str
    label: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class Accounts:
    """Every method raises LostDependency while Postgres is away. A change notes who made it, in the same transaction."""

    def __init__(self, dsn: str, *, connections: int = 2) -> None:
        self._engine = make_engine(dsn, connections=connections, statement_timeout_s=10.0)

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def find(self, key_id: str) -> Account | None:
        """The account of a key that is in force; None for any other."""
        async with lost_when_away(), self._engine.connect() as connection:
            row = (await connection.execute(_FIND, {"key_id": key_id})).one_or_none()
        if row is None:
            return None
        scopes = frozenset(scope for scope in Scope if scope.value in row.scopes)
        limits = Limits(row.rate_per_minute, row.max_open, row.tokens_per_day)
        return Account(
            row.key_id,
            row.tenant,
            scopes,
            limits,
            row.is_redacted,
            row.content == "kept",
            row.most_urgent,
            bytes(row.digest),
        )

    async def has_keys(self) -> bool:
        """True once a key was made, whether or not it is in force still."""
        async with lost_when_away(), self._engine.connect() as connection:
            return bool((await connection.execute(_ANY)).scalar_one())

    async def create(
        self, tenant: str, scopes: Sequence[Scope], *, actor: str, label: str = "", lifetime: timedelta | None = None
    ) -> ApiKey:
        """A new key. Its secret is told here and kept nowhere."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_TENANT, {"tenant": tenant, **_UNCHANGED})
            key = await _created(connection, tenant, [scope.value for scope in scopes], label, lifetime)
            await _note(connection, actor, "create", tenant, key.key_id, {"scopes": [scope.value for scope in scopes]})
            return key

    async def rotate(self, key_id: str, *, actor: str, grace: timedelta, lifetime: timedelta | None = None) -> ApiKey:
        """A new key for the old one's tenant and scopes; the old one goes on for `grace`.

        It is in force for `lifetime`; None: for as long as the old one was made for. Raises: Rejected, also for an old one that has
        expired, or in whose place there is a new one already.
        """
        async with lost_when_away(), self._engine.begin() as connection:
            row = await _in_force(connection, key_id)
            await _check_rotatable(connection, row)
            lifetime = row.made_for if lifetime is None else lifetime
            key = await _created(connection, row.tenant, list(row.scopes), row.label, lifetime)
            ends = text("""
                UPDATE api_keys SET expires_at = least(coalesce(expires_at, 'infinity'), now() + CAST(:grace AS interval))
                WHERE key_id = :id
            """)
            await connection.execute(ends, {"id": key_id, "grace": grace})
            lifetime_s = None if lifetime is None else lifetime.total_seconds()
            detail = {"new": key.key_id, "grace_s": grace.total_seconds(), "lifetime_s": lifetime_s}
            await _note(connection, actor, "rotate", row.tenant, key_id, detail)
            return key

    async def revoke(self, key_id: str, *, actor: str) -> None:
        """Puts a key out of force, for good. Raises: Rejected."""
        async with lost_when_away(), self._engine.begin() as connection:
            row = await _in_force(connection, key_id)
            await connection.execute(text("UPDATE api_keys SET revoked_at = now() WHERE key_id = :id"), {"id": key_id})
            await _note(connection, actor, "revoke", row.tenant, key_id, {})

    async def change_tenant(
        self,
        tenant: str,
        *,
        actor: str,
        rate_per_minute: int | None = None,
        max_open: int | None = None,
        tokens_per_day: int | None = None,
        is_redacted: bool | None = None,
        is_kept: bool | None = None,
        most_urgent: str | None = None,
    ) -> None:
        """Makes a tenant, or changes it: what is None stays, and a limit of 0 is none any more."""
        content = None if is_kept is None else "kept" if is_kept else "off"
        values = {
            "rate_per_minute": rate_per_minute,
            "max_open": max_open,
            "tokens_per_day": tokens_per_day,
            "is_redacted": is_redacted,
            "content": content,
            "most_urgent": most_urgent,
        }
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_TENANT, {"tenant": tenant, **values})
            await _note(connection, actor, "tenant", tenant, None, values)

    async def make_role(self, tenant: str, *, actor: str) -> str:
        """The database's role that sees the tenant's own rows, made unless there is one. Raises: Rejected."""
        role = _role_of(tenant)
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_TENANT, {"tenant": tenant, **_UNCHANGED})
            is_there = (await connection.execute(_ROLE, {"role": role})).scalar_one()
            await _may(
                connection, f'GRANT tenant TO "{role}"' if is_there else f'CREATE ROLE "{role}" NOLOGIN IN ROLE tenant'
            )
            await _note(connection, actor, "make role", tenant, None, {"role": role})
        return role

    async def drop_role(self, tenant: str, *, actor: str) -> None:
        """Drops that role: whoever is a member of it sees nothing more. Raises: Rejected."""
        role = _role_of(tenant)
        async with lost_when_away(), self._engine.begin() as connection:
            await _may(connection, f'DROP ROLE IF EXISTS "{role}"')
            await _note(connection, actor, "drop role", tenant, None, {"role": role})

    async def keys(self) -> list[KeyRow]:
        """Every key, the newest first."""
        async with lost_when_away(), self._engine.connect() as connection:
            rows = (await connection.execute(text(f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at DESC"))).all()
        return [
            KeyRow(
                key_id=row.key_id,
                tenant=row.tenant,
                label=row.label,
                scopes=tuple(row.scopes),
                created_at=row.created_at,
                expires_at=row.expires_at,
                revoked_at=row.revoked_at,
            )
            for row in rows
        ]

    async def tenants(self) -> list[dict[str, Any]]:
        """Every tenant by name: its limits, and the tokens generated for what it asked in the last 24 hours and has ended."""
        async with lost_when_away(), self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(_TENANTS)).mappings().all()]

    async def changes(self) -> list[dict[str, Any]]:
        """Who changed what, the newest first."""
        query = text(
            "SELECT changed_at, actor, action, tenant, key_id, detail FROM key_changes ORDER BY change_id DESC"
        )
        async with lost_when_away(), self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(query)).mappings().all()]


def _role_of(tenant: str) -> str:
    """As the function `own_tenants` of the database knows it. Raises: Rejected for a name that no role can have."""
    role = f"tenant_{tenant}"
    if not _TENANT_NAME.fullmatch(tenant) or len(role) > _MAX_ROLE_CHARS:
        expected = f"a tenant of up to {_MAX_ROLE_CHARS - len('tenant_')} characters: a role's name can be no longer"
        raise Rejected("tenant", expected, tenant)
    return role


async def _may(connection: AsyncConnection, statement: str) -> None:
    """Executes what needs the right to create roles. Raises: Rejected without it."""
    try:
        await connection.execute(text(statement))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _NO_PRIVILEGE:
            raise
        raise Rejected("postgres_dsn", "a login that may create roles", str(error.orig)[:200]) from error


async def _created(
    connection: AsyncConnection, tenant: str, scopes: list[str], label: str, lifetime: timedelta | None
) -> ApiKey:
    key = ApiKey.of(secrets.token_bytes(ID_BYTES + SECRET_BYTES))
    values = {"key_id": key.key_id, "tenant": tenant, "digest": key.digest, "scopes": scopes, "label": label}
    await connection.execute(_CREATE, {**values, "lifetime": lifetime})
    return key


async def _in_force(connection: AsyncConnection, key_id: str) -> Any:
    query = text(f"""
        SELECT {_COLUMNS}, expires_at - created_at AS made_for, coalesce(expires_at <= now(), false) AS is_expired
        FROM api_keys WHERE key_id = :id AND revoked_at IS NULL FOR UPDATE
    """)
    row = (await connection.execute(query, {"id": key_id})).one_or_none()
    if row is None:
        raise Rejected("key", "the id of a key that is not revoked, as `conclave keys list` shows them", key_id)
    return row


async def _check_rotatable(connection: AsyncConnection, row: Any) -> None:
    """Raises: Rejected for a key that has expired, or in whose place there is another: its end is not the one it was made for."""
    new = (await connection.execute(_REPLACED, {"id": row.key_id})).scalar_one_or_none()
    if new is not None:
        raise Rejected(
            "key", "the id of a key that was not rotated yet", f"{row.key_id}, in place of which there is {new}"
        )
    if row.is_expired:
        expected = "the id of a key that is in force (`conclave keys create` makes another)"
        raise Rejected("key", expected, f"{row.key_id}, which expired at {row.expires_at:%Y-%m-%d %H:%M}")


async def _note(
    connection: AsyncConnection, actor: str, action: str, tenant: str, key_id: str | None, detail: dict[str, Any]
) -> None:
    values = {"actor": actor, "action": action, "tenant": tenant, "key_id": key_id}
    await connection.execute(_NOTE, {**values, "detail": msgspec.json.encode(detail).decode()})
