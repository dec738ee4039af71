"""Who gave dead letters another try from the pages, and when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from conclave.store.connection import lost_when_away, make_engine

REPLAYED, NOT_REPLAYED = "replay", "replay failed"
_NOTE = text("""
    INSERT INTO dead_letter_replays (actor, action, letter_id, reason) VALUES (:actor, :action, :letter_id, :reason)
""")
# The last thing that was done to each: a try that failed comes after its note.
_LATEST = text("""
    SELECT DISTINCT ON (letter_id) letter_id, replayed_at, actor, action FROM dead_letter_replays
    WHERE letter_id = ANY(:ids) ORDER BY letter_id, replay_id DESC
""")


@dataclass(frozen=True, slots=True)
class Replay:
    """The latest try of a dead letter; `action` is REPLAYED, or NOT_REPLAYED where the log did not take it."""

    replayed_at: datetime
    actor: str
    action: str


class LetterReplays:
    """Every method raises LostDependency while Postgres is away."""

    def __init__(self, dsn: str) -> None:
        self._engine = make_engine(dsn, connections=1, statement_timeout_s=10.0)

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def note(self, letter_id: str, *, actor: str, reason: str, action: str = REPLAYED) -> None:
        """Writes down who does it."""
        values = {"letter_id": letter_id, "actor": actor, "reason": reason, "action": action}
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(_NOTE, values)

    async def latest(self, letter_ids: Sequence[str]) -> Mapping[str, Replay]:
        """The latest try of each of these letters that was given one."""
        async with lost_when_away(), self._engine.connect() as connection:
            rows = (await connection.execute(_LATEST, {"ids": list(letter_ids)})).all()
        return {row.letter_id: Replay(row.replayed_at, row.actor, row.action) for row in rows}
