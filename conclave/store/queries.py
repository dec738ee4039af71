"""What `conclave trace` asks of the record. For anything else there are the views (docs/reference/record.md)."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from conclave.store.connection import lost_when_away, make_engine
from conclave.store.reader import Reader

Record = dict[str, Any]

_TRACE = {
    "request": "SELECT * FROM request_summary WHERE request_id = :id",
    "plan": "SELECT reasons FROM plan_payloads WHERE request_id = :id",
    "steps": """
        SELECT s.step_index, s.ask, s.mark, s.depends_on, p.question, p.fields, p.why, v.outcome, v.stop_reason,
               v.answer, v.confidence, v.margin, v.agreement,
               v.entropy, v.launched, t.tally
        FROM steps s
        LEFT JOIN step_payloads p USING (asked_at, request_id, step_index)
        LEFT JOIN verdicts v USING (asked_at, request_id, step_index)
        LEFT JOIN verdict_payloads t USING (asked_at, request_id, step_index)
        WHERE s.request_id = :id ORDER BY s.step_index""",
    "paths": """
        SELECT v.*, p.probability FROM path_votes v JOIN paths p USING (asked_at, request_id, step_index, sample_index)
        WHERE v.request_id = :id ORDER BY v.step_index, v.sample_index""",
    "turns": "SELECT * FROM path_turns WHERE request_id = :id ORDER BY step_index, sample_index, turn_index",
    "flips": "SELECT * FROM flipped_votes WHERE request_id = :id ORDER BY step_index, sample_index",
    "correlation": """
        SELECT c.* FROM vote_correlation c WHERE c.policy = (SELECT policy FROM plans WHERE request_id = :id LIMIT 1)""",
    "feedback": "SELECT * FROM given_feedback WHERE request_id = :id ORDER BY given_at",
}


async def request_trace(dsn: str, request_id: str) -> dict[str, list[Record]]:
    """Everything recorded of a request: `request` (empty when unknown), `plan`, `steps`, `paths`, `turns`, `flips`,
    `correlation`, `feedback`.

    Raises: LostDependency.
    """
    return {name: await _query(dsn, query, {"id": request_id}) for name, query in _TRACE.items()}


async def trace_read(reader: Reader, request_id: str) -> dict[str, list[Record]]:
    """The same as `request_trace`, over connections that are there already. Raises: LostDependency."""
    return {name: await reader.rows(query, {"id": request_id}) for name, query in _TRACE.items()}


async def _query(dsn: str, query: str, values: Record) -> list[Record]:
    engine = make_engine(dsn)
    try:
        async with lost_when_away(), engine.connect() as connection:
            found: Sequence[Any] = (await connection.execute(text(query), values)).mappings().all()
            return [dict(row) for row in found]
    finally:
        await engine.dispose()
