"""The gateway's ledger: which tenant asked which request, so that any gateway can tell, limit and repeat.

It is written before the request is published. A crash in between leaves an entry without a request: whoever sends the same
idempotency key again publishes it under the id that was given then.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from conclave.domain.tenant_budget import WINDOW_HOURS, Spent, free_in_s
from conclave.store.connection import lost_when_away, make_engine
from conclave.store.forgetting import forgotten, statement
from conclave.store.rows import asked_at
from schemas.ids import shadow_id

RATE_WINDOW_S = 60.0
_OPEN_RETRY_S = 2.0
_BATCHES_LOOK_AGAIN_S = 600.0  # at the latest: what is under way may come to less than it seems

_KNOWN = text("SELECT request_id, digest FROM gateway_requests WHERE tenant = :tenant AND idempotency_key = :key")
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('gateway ' || :tenant, 0))")
# Lines of batches come with no key: how often they are asked, and how many at once, is their batches' business.
_RATE = text("""
    SELECT count(*), extract(epoch FROM min(created_at) + CAST(:window AS interval) - now()) FROM gateway_requests
    WHERE tenant = :tenant AND key_id IS NOT NULL AND created_at > now() - CAST(:window AS interval)
""")
_OPEN = text("""
    SELECT count(*) FROM gateway_requests g WHERE tenant = :tenant AND key_id IS NOT NULL AND deadline_at > now() AND NOT EXISTS
        (SELECT 1 FROM answers a WHERE a.asked_at = g.asked_at AND a.request_id = g.request_id)
""")
_ENTER = text("""
    INSERT INTO gateway_requests (request_id, asked_at, tenant, key_id, idempotency_key, digest, content, shadow_id, deadline_at)
    VALUES (:request_id, :asked_at, :tenant, :key_id, :key, :digest, :content, :shadow_id, now() + CAST(:deadline AS interval))
    ON CONFLICT (tenant, idempotency_key) DO NOTHING
""")
# What a request cost is added to its tenant's hours once: when its end is recorded, or an hour after it can have none any more. How
# old it is at most is bounded by a day of waiting, so that a budget that is set late does not read the whole ledger.
_SETTLE = text("""
    WITH ended AS (
        SELECT g.request_id, coalesce(
                   a.tokens_out,
                   (SELECT sum(p.tokens_out) FROM paths p WHERE p.asked_at = g.asked_at AND p.request_id = g.request_id),
                   0) AS tokens,
               date_bin('1 hour', coalesce(a.answered_at, g.deadline_at), '2000-01-01 00:00:00+00') AS hour
        FROM gateway_requests g LEFT JOIN answers a ON a.asked_at = g.asked_at AND a.request_id = g.request_id
        WHERE g.tenant = :tenant AND g.tokens IS NULL AND g.created_at > now() - interval '50 hours'
            AND (a.request_id IS NOT NULL OR g.deadline_at < now() - interval '1 hour')),
    settled AS (
        UPDATE gateway_requests g SET tokens = e.tokens FROM ended e WHERE g.request_id = e.request_id)
    INSERT INTO tenant_hours AS h (tenant, hour, tokens) SELECT :tenant, hour, sum(tokens) FROM ended GROUP BY hour
    ON CONFLICT (tenant, hour) DO UPDATE SET tokens = h.tokens + excluded.tokens
""")
_HOURS = text("""
    SELECT extract(epoch FROM now() - hour)::float8 AS age_s, tokens FROM tenant_hours
    WHERE tenant = :tenant AND hour > now() - CAST(:window AS interval)
""")
_UNDER_WAY = text("""
    SELECT coalesce(sum(p.tokens_out), 0) FROM gateway_requests g
    JOIN paths p ON p.asked_at = g.asked_at AND p.request_id = g.request_id
    WHERE g.tenant = :tenant AND g.tokens IS NULL AND g.created_at > now() - interval '50 hours'
""")
_PAUSE = text("UPDATE tenants SET waits_until = now() + CAST(:pause AS interval) WHERE tenant = :tenant")
_FORGET = statement("gateway_requests", "request_id")
_FORGOTTEN_AT_ONCE = 10_000
_FORGET_HOURS = text("DELETE FROM tenant_hours WHERE hour < now() - CAST(:age AS interval)")
_OWNERS = text("SELECT request_id, tenant FROM gateway_requests WHERE request_id = ANY(CAST(:ids AS uuid[]))")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant may do; None: as much as it likes."""

    rate_per_minute: int | None = None
    max_open: int | None = None
    tokens_per_day: int | None = None  # generated, of all paths


@dataclass(frozen=True, slots=True)
class Entry:
    """A request that is about to be published. `digest` is of all that makes it what it is.

    The record keeps no word of one whose content is not kept.
    """

    request_id: str
    tenant: str
    digest: bytes
    deadline_s: float
    key_id: str | None = None
    idempotency_key: str | None = None
    is_kept: bool = True


@dataclass(frozen=True, slots=True)
class Entered:
    """It may be published, under this id: an earlier one when the same was entered before."""

    request_id: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class KeyReused:
    """Its idempotency key was another request's."""

    request_id: str


@dataclass(frozen=True, slots=True)
class OverLimit:
    """Its tenant has reached a limit."""

    what: str
    allowed: int
    retry_after_s: float


class Ledger:
    """See the module's docstring. Every method raises LostDependency while Postgres is away."""

    def __init__(self, dsn: str, *, connections: int = 4) -> None:
        self._engine = make_engine(dsn, connections=connections, statement_timeout_s=10.0)

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def enter(self, entry: Entry, limits: Limits) -> Entered | KeyReused | OverLimit:
        """Writes the entry down, unless it is known or its tenant has reached a limit."""
        async with lost_when_away(), self._engine.begin() as connection:
            known = await _known(connection, entry)
            if known is not None:
                return known
            over = await _over(connection, entry.tenant, limits)
            if over is not None:
                return over
            values = {
                "request_id": entry.request_id,
                "asked_at": asked_at(entry.request_id),
                "tenant": entry.tenant,
                "key_id": entry.key_id,
                "key": entry.idempotency_key,
                "digest": entry.digest,
                "content": "kept" if entry.is_kept else "off",
                "shadow_id": shadow_id(entry.request_id),
                "deadline": timedelta(seconds=entry.deadline_s),
            }
            if (await connection.execute(_ENTER, values)).rowcount:
                return Entered(entry.request_id, is_new=True)
            known = await _known(connection, entry)  # another one was faster
            assert known is not None
            return known

    async def withdraw(self, request_id: str) -> None:
        """Strikes out a request that could not be published."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(text("DELETE FROM gateway_requests WHERE request_id = :id"), {"id": request_id})

    async def owners(self, request_ids: Collection[str]) -> dict[str, str]:
        """The tenant of each request that came through a gateway."""
        async with lost_when_away(), self._engine.connect() as connection:
            found = (await connection.execute(_OWNERS, {"ids": list(request_ids)})).all()
            return {str(request_id): tenant for request_id, tenant in found}

    async def forget(self, older_than_days: int) -> int:
        """How many entries were dropped, those of before so many days."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_FORGET_HOURS, {"age": timedelta(days=older_than_days)})
        return await forgotten(self._engine, _FORGET, older_than_days, at_once=_FORGOTTEN_AT_ONCE)


async def _known(connection: AsyncConnection, entry: Entry) -> Entered | KeyReused | None:
    if entry.idempotency_key is None:
        return None
    values = {"tenant": entry.tenant, "key": entry.idempotency_key}
    row = (await connection.execute(_KNOWN, values)).one_or_none()
    if row is None:
        return None
    request_id = str(row[0])
    return Entered(request_id, is_new=False) if bytes(row[1]) == entry.digest else KeyReused(request_id)


async def _over(connection: AsyncConnection, tenant: str, limits: Limits) -> OverLimit | None:
    """The limit that one request more would break. Two at once are counted one after the other."""
    if limits == Limits():
        return None
    await connection.execute(_LOCK, {"tenant": tenant})
    if limits.rate_per_minute is not None:
        values: dict[str, Any] = {"tenant": tenant, "window": timedelta(seconds=RATE_WINDOW_S)}
        num, until_next_s = (await connection.execute(_RATE, values)).one()
        if num >= limits.rate_per_minute:
            return OverLimit("requests per minute", limits.rate_per_minute, float(until_next_s or RATE_WINDOW_S))
    if limits.max_open is not None:
        num = (await connection.execute(_OPEN, {"tenant": tenant})).scalar_one()
        if num >= limits.max_open:
            return OverLimit("requests open at once", limits.max_open, _OPEN_RETRY_S)
    if limits.tokens_per_day is not None:
        return await _over_budget(connection, tenant, limits.tokens_per_day)
    return None


async def _over_budget(connection: AsyncConnection, tenant: str, tokens_per_day: int) -> OverLimit | None:
    """What is spent is spent, whoever asks: what runs now goes on to its end, so the last requests of a day may go beyond.

    1. What has ended since is added to the hours.
    2. These, and what requests under way have generated so far, are held against the budget.
    3. Over it, the tenant's batches wait too.
    """
    values: dict[str, Any] = {"tenant": tenant, "window": timedelta(hours=WINDOW_HOURS)}
    await connection.execute(_SETTLE, values)  # 1
    hours = [Spent(row.age_s, int(row.tokens)) for row in await connection.execute(_HOURS, values)]
    under_way = int((await connection.execute(_UNDER_WAY, values)).scalar_one())
    retry_after_s = free_in_s(hours, under_way, tokens_per_day)  # 2
    if retry_after_s is None:
        return None
    pause = timedelta(seconds=min(retry_after_s, _BATCHES_LOOK_AGAIN_S))
    await connection.execute(_PAUSE, {"tenant": tenant, "pause": pause})  # 3
    return OverLimit("generated tokens in 24 hours", tokens_per_day, retry_after_s)
