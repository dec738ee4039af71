"""The ledger of calls with an effect: each is entered as begun before it is made, and with what came of it after.

Its key is the id of the step that makes the call, which is the same however often the request for it is read. Of requests whose
content is off, and of erased ones, it keeps no word of what came of it.
"""

from sqlalchemy import text

from conclave.domain.external import Entry, Known
from conclave.store.connection import lost_when_away, make_engine
from conclave.store.rows import asked_at
from schemas.events import ToolRequested

KEPT_DAYS = (
    30  # longer than a request for a call can lie in its topic, so that none is forgotten that may be read again
)

_BEGIN = text("""
    INSERT INTO tool_effects (key, request_id, asked_at, step_index, tool, begun_at)
    VALUES (:key, CAST(:request_id AS uuid), :asked_at, :step_index, :tool, now()) ON CONFLICT (key) DO NOTHING
""")
_KNOWN = text("SELECT observed, is_failed, ended_at FROM tool_effects WHERE key = :key")
_NUMBERED = text("SELECT pg_current_xact_id()")
_END = text("""
    UPDATE tool_effects e SET is_failed = :is_failed, ended_at = now(), observed = CASE WHEN EXISTS (
        SELECT FROM gateway_requests g WHERE g.request_id = e.request_id AND g.content <> 'kept'
        UNION ALL SELECT FROM erased_requests d WHERE d.request_id = e.request_id) THEN NULL ELSE :observed END
    WHERE key = :key AND ended_at IS NULL
""")
_FORGET = text("DELETE FROM tool_effects WHERE begun_at < now() - make_interval(days => :days)")


class ToolLedger:
    """See the module's docstring. Every method raises LostDependency while Postgres is away."""

    def __init__(self, dsn: str) -> None:
        self._engine = make_engine(dsn, statement_timeout_s=10.0)

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def begin(self, key: str, event: ToolRequested) -> Entry:
        """What is known of a call; a new one is entered as begun."""
        request_id = event.context.request_id
        values = {
            "key": key,
            "request_id": request_id,
            "asked_at": asked_at(request_id),
            "step_index": event.context.step_index,
            "tool": event.call.tool,
        }
        async with lost_when_away(), self._engine.begin() as connection:
            if (await connection.execute(_BEGIN, values)).rowcount:
                return Entry(Known.NEW)
            row = (await connection.execute(_KNOWN, {"key": key})).one()
        return Entry(Known.BEGUN) if row.ended_at is None else Entry(Known.DONE, row.observed, row.is_failed)

    async def end(self, key: str, observed: str, *, is_failed: bool) -> None:
        """Enters what came of a call; the first that is entered stays."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_NUMBERED)  # as erasing counts on (conclave.store.erasure)
            await connection.execute(_END, {"key": key, "observed": observed.replace("\0", ""), "is_failed": is_failed})

    async def forget(self) -> int:
        """How many entries were so old that they are gone now."""
        async with lost_when_away(), self._engine.begin() as connection:
            return (await connection.execute(_FORGET, {"days": KEPT_DAYS})).rowcount
