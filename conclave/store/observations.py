"""What the record knows of how hard questions are, for `conclave router train` and `conclave effort fit`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text

from conclave.domain.complexity.outcomes import Kind, Outcome
from conclave.domain.routing.examples import Observation
from conclave.store.connection import lost_when_away, make_engine

_FEEDBACK = """
    opinions AS (
        SELECT asked_at, request_id, avg(reward) AS reward FROM given_feedback
        WHERE asked_at >= :since AND is_latest AND step_index IS NULL AND metric = 'reward' GROUP BY asked_at, request_id),
    knowledge AS (
        SELECT DISTINCT ON (f.asked_at, f.request_id) f.asked_at, f.request_id, f.right_answer
        FROM given_feedback f
        WHERE f.asked_at >= :since AND f.is_latest AND f.right_answer IS NOT NULL AND f.step_index IS NULL
        ORDER BY f.asked_at, f.request_id, f.given_at DESC, f.event_id)
"""
# Steps that put the question in the direct form, and votes of requests of one step: feedback is of the request's answer.
# Of what was erased, or whose words are not kept, nothing can be learned.
_OBSERVATIONS = f"""
    WITH {_FEEDBACK}
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
    WHERE s.asked_at >= :since AND v.stop_reason <> 'recalled' AND q.question <> ''
      AND (o.form = :form OR (s.step_index = 0 AND a.answered_by = 0 AND v.launched > 1))
    ORDER BY s.asked_at DESC, s.request_id, s.step_index
    LIMIT :limit
"""
_OUTCOMES = f"""
    WITH {_FEEDBACK}, {{asked}}
    SELECT q.question, l.said, a.answer, r.reward, k.right_answer
    FROM asked s
    CROSS JOIN LATERAL ({{said}}) l
    JOIN request_payloads q USING (asked_at, request_id)
    JOIN answers a USING (asked_at, request_id)
    LEFT JOIN opinions r USING (asked_at, request_id)
    LEFT JOIN knowledge k USING (asked_at, request_id)
    WHERE q.question <> '' AND l.said IS NOT NULL
    ORDER BY s.asked_at DESC, s.request_id
"""
# Votes on the whole question that the answer came from, or would have; and the requests of strategies that go in rounds.
_OUTCOMES_OF: Mapping[Kind, tuple[str, str]] = {
    "samples": (
        """asked AS (
        SELECT s.asked_at, s.request_id, s.step_index FROM steps s
        JOIN verdicts v USING (asked_at, request_id, step_index)
        JOIN answers a USING (asked_at, request_id)
        WHERE s.asked_at >= :since AND s.ask = 'whole' AND s.step_index = coalesce(a.answered_by, 0)
          AND v.launched > 1 AND v.stop_reason NOT IN ('recalled', 'declined')
        ORDER BY s.asked_at DESC, s.request_id LIMIT :limit)""",
        """SELECT array_agg(b.answer ORDER BY b.sample_index) AS said FROM ballots b
        WHERE (b.asked_at, b.request_id, b.step_index) = (s.asked_at, s.request_id, s.step_index) AND b.failure IS NULL""",
    ),
    "rounds": (
        """asked AS (
        SELECT pl.asked_at, pl.request_id FROM plans pl JOIN policies po ON po.digest = pl.policy_digest
        WHERE pl.asked_at >= :since AND po.policy ->> 'strategy' = 'contemplation' AND pl.recalled_from IS NULL
        ORDER BY pl.asked_at DESC, pl.request_id LIMIT :limit)""",
        """SELECT array_agg(v.answer ORDER BY v.step_index) AS said FROM verdicts v
        WHERE (v.asked_at, v.request_id) = (s.asked_at, s.request_id)""",
    ),
}


async def outcomes(dsn: str, kind: Kind, *, since: datetime, limit: int) -> list[Outcome]:
    """The latest `limit` outcomes of votes, or of rounds, since a time, newest first. Raises: LostDependency."""
    asked, said = _OUTCOMES_OF[kind]
    rows = await _rows(dsn, _OUTCOMES.format(asked=asked, said=said), {"since": since, "limit": limit})
    return [Outcome(**row) for row in rows]


async def observations(dsn: str, *, since: datetime, form: str, limit: int) -> list[Observation]:
    """The latest observations since a time, newest first; `form` is the prompt form of a direct answer.

    Raises: LostDependency.
    """
    rows = await _rows(dsn, _OBSERVATIONS, {"since": since, "form": form, "limit": limit})
    return [Observation(**row) for row in rows]


async def _rows(dsn: str, query: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    engine = make_engine(dsn)
    try:
        async with lost_when_away(), engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(text(query), values)).mappings()]
    finally:
        await engine.dispose()
