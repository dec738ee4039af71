"""Cancellations that wait to be published, so that they outlive the gateway that heard them, and a log that is away."""

from collections.abc import Collection
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from conclave.store.connection import lost_when_away, make_engine
from schemas.events import RequestCancelled
from schemas.ids import asked_at_ms

_ADD = text("""
    INSERT INTO gateway_cancellations (request_id, until) VALUES (:request_id, :until) ON CONFLICT (request_id) DO NOTHING
""")
_FORGET = text("DELETE FROM gateway_cancellations WHERE until <= now()")
_WAITING = text("SELECT request_id, until FROM gateway_cancellations ORDER BY until LIMIT :limit")
_DROP = text("DELETE FROM gateway_cancellations WHERE request_id = ANY(CAST(:ids AS uuid[]))")


class Cancellations:
    """Any gateway publishes what another has noted. Every method raises LostDependency while Postgres is away."""

    def __init__(self, dsn: str, *, connections: int = 1) -> None:
        self._engine = make_engine(dsn, connections=connections, statement_timeout_s=10.0)

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def add(self, cancellations: Collection[RequestCancelled]) -> None:
        """Notes them, each once."""
        async with lost_when_away(), self._engine.begin() as connection:
            await note(connection, cancellations)

    async def waiting(self, limit: int) -> list[RequestCancelled]:
        """So many of those that wait, the first to be worth nothing any more first. Those that are already are dropped."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_FORGET)
            rows = (await connection.execute(_WAITING, {"limit": limit})).all()
        return [
            RequestCancelled(request_id=str(request_id), until_ms=round(until.timestamp() * 1000))
            for request_id, until in rows
        ]

    async def drop(self, request_ids: Collection[str]) -> None:
        """Those that were published wait no longer."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_DROP, {"ids": list(request_ids)})


def cancellation_of(request_id: str, deadline_s: float) -> RequestCancelled:
    """The event that cancels a request which is given `deadline_s` from when it was asked."""
    return RequestCancelled(request_id=request_id, until_ms=asked_at_ms(request_id) + round(1000 * deadline_s))


async def note(connection: AsyncConnection, cancellations: Collection[RequestCancelled]) -> None:
    """Has them wait once the transaction ends: for what is cancelled by what else that does."""
    found = {str(each.request_id): _time_of(each) for each in cancellations}
    rows = [
        {"request_id": request_id, "until": found[request_id]} for request_id in sorted(found)
    ]  # one order everywhere
    if rows:
        await connection.execute(_ADD, rows)


def _time_of(cancellation: RequestCancelled) -> datetime:
    return datetime.fromtimestamp(cancellation.until_ms / 1000, UTC)
