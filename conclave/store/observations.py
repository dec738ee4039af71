"""What the record knows of how hard questions are, for `conclave router train`."""

from datetime import datetime

from sqlalchemy import text

from conclave.domain.routing.examples import Observation
from conclave.store.connection import lost_when_away, make_engine

# Steps that put the question in the direct form, and votes of requests of one step: feedback is of the request's answer.
_OBSERVATIONS = text("""
    WITH opinions AS (
        SELECT asked_at, request_id, avg(reward) AS reward FROM given_feedback
        WHERE asked_at >= :since AND is_latest AND step_index IS NULL AND metric = 'reward' GROUP BY asked_at, request_id),
    knowledge AS (
        SELECT DISTINCT ON (f.asked_at, f.request_id) f.asked_at, f.request_id, f.right_answer
        FROM given_feedback f
        WHERE f.asked_at >= :since AND f.is_latest AND f.right_answer IS NOT NULL AND f.step_index IS NULL
        ORDER BY f.asked_at, f.request_id, f.given_at DESC, f.event_id)
    SELECT q.question, o.form = :form AS is_direct, v.answer, v.confidence, v.agreement,
           coalesce(a.answered_by = s.step_index, false) AS is_final, a.answer AS final_answer, r.reward, k.right_answer
    FROM steps s
    JOIN plans pl USING (asked_at, request_id)
    JOIN policies po ON po.digest = pl.policy_digest
    CROSS JOIN LATERAL (SELECT po.policy -> 'asks' -> s.ask ->> 'form' AS form) o
    JOIN verdicts v USING (asked_at, request_id, step_index)
    JOIN request_payloads q USING (asked_at, request_id)
    LEFT JOIN answers a USING (asked_at, request_id)
    LEFT JOIN opinions r USING (asked_at, request_id)
    LEFT JOIN knowledge k USING (asked_at, request_id)
    WHERE s.asked_at >= :since AND v.stop_reason <> 'recalled'
      AND (o.form = :form OR (s.step_index = 0 AND a.answered_by = 0 AND v.launched > 1))
    ORDER BY s.asked_at DESC, s.request_id, s.step_index
    LIMIT :limit
""")


async def observations(dsn: str, *, since: datetime, form: str, limit: int) -> list[Observation]:
    """The latest observations since a time, newest first; `form` is the prompt form of a direct answer.

    Raises: LostDependency.
    """
    engine = make_engine(dsn)
    try:
        async with lost_when_away(), engine.connect() as connection:
            rows = await connection.execute(_OBSERVATIONS, {"since": since, "form": form, "limit": limit})
            return [Observation(**row) for row in rows.mappings()]
    finally:
        await engine.dispose()
