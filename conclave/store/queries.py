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
               v.entropy, v.launched, t.tally, t.fields AS field_votes
        FROM steps s
        LEFT JOIN step_payloads p USING (asked_at, request_id, step_index)
        LEFT JOIN verdicts v USING (asked_at, request_id, step_index)
        LEFT JOIN verdict_payloads t USING (asked_at, request_id, step_index)
        WHERE s.request_id = :id ORDER BY s.step_index""",
    "paths": """
        SELECT v.*, p.probability, p.is_declined, p.num_handed_on FROM path_votes v
        JOIN paths p USING (asked_at, request_id, step_index, sample_index)
        WHERE v.request_id = :id ORDER BY v.step_index, v.sample_index""",
    "turns": "SELECT * FROM path_turns WHERE request_id = :id ORDER BY step_index, sample_index, turn_index",
    "calls": "SELECT * FROM tool_requests WHERE request_id = :id ORDER BY step_index",
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


_STORED = """
    WITH latest AS (
        SELECT request_id, policy, answer, answered_by, asked_at FROM answers
        WHERE failure IS NULL AND answered_by IS NOT NULL AND answer IS NOT NULL
              AND (cast(:policy AS text) IS NULL OR policy = :policy)
        ORDER BY asked_at DESC LIMIT :num_requests
    )
    SELECT a.request_id, a.asked_at, p.sample_index, p.failure, p.answer, p.tokens_out, p.probability, p.mean_logprob,
           p.answer_logprob, p.lowest_group_logprob, p.tail_logprob, p.is_declined,
           coalesce(f.right_answer, CASE WHEN f.reward = 1 THEN a.answer END) AS gold
    FROM latest a
    JOIN paths p ON (p.asked_at, p.request_id, p.step_index) = (a.asked_at, a.request_id, a.answered_by)
    LEFT JOIN LATERAL (
        SELECT right_answer, reward FROM given_feedback g
        WHERE g.asked_at = a.asked_at AND g.request_id = a.request_id AND g.is_latest AND g.step_index IS NULL
          AND g.metric = 'reward'
        ORDER BY g.right_answer IS NULL, g.given_at DESC LIMIT 1) f ON true
    ORDER BY a.asked_at, a.request_id, p.sample_index
"""


async def stored_paths(dsn: str, policy: str | None, num_requests: int) -> list[Record]:
    """The paths of the steps that the latest answers lean on, in launch order, with what feedback says is right (`gold`).

    Of what was erased, or whose words are not kept, there is none.
    A right answer that was given comes before a reward of 1, which says that the answer is. Raises: LostDependency.
    """
    return await _query(dsn, _STORED, {"policy": policy, "num_requests": num_requests})


_WAITING = """
    SELECT request_id, step_index, tool, argument, approval_until FROM tool_requests
    WHERE is_waiting AND asked_at > now() - make_interval(days => :days)
      AND (cast(:id AS text) IS NULL OR request_id = cast(cast(:id AS text) AS uuid))
    ORDER BY approval_until, request_id, step_index
"""


async def waiting_calls(dsn: str, request_id: str | None, *, max_age_days: int) -> list[Record]:
    """The calls, of one request or of all, that wait for somebody's yes, the most urgent first. Raises: LostDependency."""
    return await _query(dsn, _WAITING, {"id": request_id, "days": max_age_days})


async def _query(dsn: str, query: str, values: Record) -> list[Record]:
    engine = make_engine(dsn)
    try:
        async with lost_when_away(), engine.connect() as connection:
            found: Sequence[Any] = (await connection.execute(text(query), values)).mappings().all()
            return [dict(row) for row in found]
    finally:
        await engine.dispose()
