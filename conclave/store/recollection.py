"""Answers that the record holds, by the fingerprint of their question: what `services.decomposer.memory` asks."""

from collections.abc import Sequence
from typing import Any

import msgspec

from conclave.domain.equivalence import are_same
from conclave.domain.recall import Remembered
from conclave.store.reader import Reader
from conclave.store.rows import moment
from schemas.values import Outcome

_STATEMENT_TIMEOUT_S = 2.0
_DISLIKED_BELOW = 0.5

# The newest answer under each token, none that a budget or a deadline cut short; of a disliked one the record tells, so that no
# older one takes its place.
_NEWEST = """
    SELECT DISTINCT ON (f.{column}) f.{column} AS token, f.key, f.request_id::text AS request_id, a.answer, a.outcome,
           a.confidence, a.margin, coalesce(v.agreement, 1.0) AS agreement, coalesce(v.entropy, 0.0) AS entropy, t.tally,
           a.tokens_out, extract(epoch FROM a.answered_at) * 1000 AS answered_ms, o.liking, o.worst, o.right_answers
    FROM fingerprints f
    JOIN answers a USING (asked_at, request_id)
    LEFT JOIN answer_payloads t USING (asked_at, request_id)
    LEFT JOIN verdicts v ON v.asked_at = f.asked_at AND v.request_id = f.request_id AND v.step_index = a.answered_by
    LEFT JOIN LATERAL (
        SELECT avg(l.reward) AS liking, min(l.reward) AS worst, array_agg(l.right_answer) AS right_answers FROM (
            SELECT DISTINCT ON (b.request_id, b.source) b.reward, p.right_answer
            FROM feedback b LEFT JOIN feedback_payloads p USING (asked_at, request_id, event_source, event_id)
            WHERE (b.request_id = f.request_id
                   OR b.request_id IN (SELECT r.request_id FROM plans r WHERE r.recalled_from = f.request_id))
                  AND b.step_index IS NULL AND b.metric = 'reward'
            ORDER BY b.request_id, b.source, b.given_at DESC, b.event_id) l) o ON true
    WHERE f.{column} = ANY(:tokens) AND f.{column} <> '' AND f.asked_at >= :oldest AND a.failure IS NULL AND a.ended_by = 'decided'
    ORDER BY f.{column}, a.answered_at DESC, f.request_id
"""
# Whom feedback has spoken against since; what it calls right may be the same answer in other words, which is left to `newest`.
_SPOKEN_AGAINST = """
    SELECT DISTINCT coalesce(p.recalled_from, b.request_id)::text AS request_id
    FROM feedback b LEFT JOIN plans p USING (asked_at, request_id)
    LEFT JOIN feedback_payloads t USING (asked_at, request_id, event_source, event_id)
    WHERE b.given_at >= :since AND b.step_index IS NULL AND b.metric = 'reward'
          AND (b.reward < 0.5 OR t.right_answer IS NOT NULL)
"""


class Recollection:
    """One database, read only; a query ends after two seconds."""

    def __init__(self, dsn: str) -> None:
        self._reader = Reader(dsn, connections=1, statement_timeout_s=_STATEMENT_TIMEOUT_S)

    async def newest(self, tokens: Sequence[str], *, by_gist: bool, oldest_ms: int) -> dict[str, Remembered]:
        """The newest answer under each key, or gist, of questions asked since a time. Raises: LostDependency."""
        query = _NEWEST.format(column="gist" if by_gist else "key")
        rows = await self._reader.rows(query, {"tokens": list(tokens), "oldest": moment(max(0, oldest_ms))})
        return {row["token"]: _remembered(row) for row in rows}

    async def spoken_against(self, since_ms: int) -> set[str]:
        """The requests whose answer, given or recalled, feedback has called wrong since a time. Raises: LostDependency."""
        rows = await self._reader.rows(_SPOKEN_AGAINST, {"since": moment(max(0, since_ms))})
        return {row["request_id"] for row in rows}

    async def close(self) -> None:
        """Closes the connections."""
        await self._reader.close()


def _remembered(row: dict[str, Any]) -> Remembered:
    rights = [each for each in row["right_answers"] or () if each is not None]
    is_wrong = any(not are_same(row["answer"], each) for each in rights)
    values = {name: row[name] for name in Remembered.__struct_fields__ if name in row}
    values |= {
        "outcome": Outcome(row["outcome"]),
        "tally": row["tally"] or [],
        "answered_ms": int(row["answered_ms"]),
        "is_disliked": is_wrong or (row["worst"] is not None and row["worst"] < _DISLIKED_BELOW),
    }
    return msgspec.convert(values, Remembered)
