"""The votes whose answers were judged, from the record: what votes learn from."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from conclave.domain.vote_learning.labels import JudgedVote
from conclave.store.connection import lost_when_away, make_engine
from schemas.values import Ballot, PathFailure

# All that a rule may weigh a ballot by, so that it counts as it did.
_FIGURES = (
    "mean_logprob",
    "probability",
    "tokens_out",
    "answer_logprob",
    "lowest_group_logprob",
    "tail_logprob",
    "is_declined",
)
# Feedback on the answer that holds: rewards of all sources averaged, the newest correction. Raters before users: an expert's or a
# program's correction is taken first. The step is the one that gave the answer, so the vote is the one that was judged.
_JUDGED = text("""
    WITH judged AS (
        SELECT asked_at, request_id, avg(reward) AS reward,
               (array_agg(right_answer ORDER BY (rater = 'user'), given_at DESC) FILTER (WHERE right_answer IS NOT NULL))[1]
                   AS right_answer
        FROM given_feedback
        WHERE is_latest AND step_index IS NULL AND metric = 'reward' AND asked_at >= :since
        GROUP BY 1, 2)
    SELECT j.request_id, j.reward, j.right_answer, v.answer, b.sample_index, b.answer AS vote, b.failure,
           b.mean_logprob, b.probability, b.tokens_out, x.answer_logprob, x.lowest_group_logprob, x.tail_logprob,
           coalesce(x.is_declined, false) AS is_declined
    FROM judged j
    JOIN answers a USING (asked_at, request_id)
    JOIN plans p USING (asked_at, request_id)
    JOIN steps s ON s.asked_at = j.asked_at AND s.request_id = j.request_id AND s.step_index = a.answered_by
    JOIN verdicts v ON v.asked_at = j.asked_at AND v.request_id = j.request_id AND v.step_index = a.answered_by
    JOIN ballots b ON b.asked_at = j.asked_at AND b.request_id = j.request_id AND b.step_index = a.answered_by
    LEFT JOIN paths x ON x.asked_at = b.asked_at AND x.request_id = b.request_id AND x.step_index = b.step_index
                         AND x.sample_index = b.sample_index
    WHERE p.policy_digest = :digest AND s.ask = :ask AND v.answer IS NOT NULL
    ORDER BY j.request_id, b.sample_index
""")


async def judged_votes(dsn: str, *, policy_digest: str, ask: str, since_ms: int = 0) -> list[JudgedVote]:
    """Every judged vote by which a policy's ask was answered, in the order of request ids. Raises: LostDependency."""
    values = {"digest": policy_digest, "ask": ask, "since": datetime.fromtimestamp(since_ms / 1000, UTC)}
    engine = make_engine(dsn)
    try:
        async with lost_when_away(), engine.connect() as connection:
            rows = (await connection.execute(_JUDGED, values)).mappings().all()
    finally:
        await engine.dispose()
    of_requests: dict[str, list[Mapping[Any, Any]]] = defaultdict(list)
    for row in rows:
        of_requests[str(row["request_id"])].append(row)
    return [_vote(request_id, each) for request_id, each in of_requests.items()]


def _vote(request_id: str, rows: list[Mapping[Any, Any]]) -> JudgedVote:
    first = rows[0]
    reward = None if first["reward"] is None else float(first["reward"])
    ballots = tuple(map(_ballot, rows))
    return JudgedVote(request_id, ballots, first["answer"], reward, first["right_answer"])


def _ballot(row: Mapping[Any, Any]) -> Ballot:
    return Ballot(
        sample_index=row["sample_index"],
        answer=row["vote"],
        failure=PathFailure(row["failure"]) if row["failure"] else None,
        **{name: row[name] for name in _FIGURES},
    )
