"""Cancellations that wait for the log to be back, so that they outlive the gateway that heard them."""

from collections.abc import Collection
from datetime import UTC, datetime

from sqlalchemy import text

from conclave.store.connection import lost_when_away, make_engine
from schemas.events import RequestCancelled

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
        rows = [{"request_id": str(each.request_id), "until": _time_of(each)} for each in cancellations]
        async with lost_when_away(), self._engine.begin() as connection:
            if rows:
                await connection.execute(_ADD, rows)

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


def _time_of(cancellation: RequestCancelled) -> datetime:
    return datetime.fromtimestamp(cancellation.until_ms / 1000, UTC)
