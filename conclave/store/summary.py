"""What `conclave report` asks of the record: the figures of all requests asked since a time, in one snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from conclave.store.connection import lost_when_away, make_engine

Record = dict[str, Any]

_JUDGED = """
    judged AS (
        SELECT f.asked_at, f.request_id, avg(f.reward) AS reward FROM given_feedback f
        WHERE f.asked_at >= :since AND f.is_latest AND f.step_index IS NULL AND f.metric = 'reward' AND f.reward IS NOT NULL
        GROUP BY 1, 2)
"""
_QUERIES: Mapping[str, str] = {
    "totals": """
        SELECT count(*) AS requests, count(*) FILTER (WHERE failure IS NULL) AS answered, sum(num_paths) AS paths,
               sum(tokens_out) AS tokens_out, percentile_cont(0.5) WITHIN GROUP (ORDER BY elapsed_ms) AS p50_ms,
               percentile_cont(0.95) WITHIN GROUP (ORDER BY elapsed_ms) AS p95_ms
        FROM answers WHERE asked_at >= :since""",
    "hours": """
        SELECT date_trunc(CASE WHEN now() - CAST(:since AS timestamptz) > interval '3 days' THEN 'day' ELSE 'hour' END,
                          asked_at, 'UTC') AS at,
               count(*) AS requests, count(*) FILTER (WHERE failure IS NOT NULL) AS failed
        FROM answers WHERE asked_at >= :since GROUP BY 1 ORDER BY 1""",
    "policies": f"""
        WITH {_JUDGED}
        SELECT a.policy, a.arm, count(*) AS requests, count(*) FILTER (WHERE a.failure IS NULL) AS answered,
               avg(a.num_paths)::double precision AS paths, avg(a.tokens_out)::double precision AS tokens_out,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY a.elapsed_ms) AS p50_ms,
               percentile_cont(0.95) WITHIN GROUP (ORDER BY a.elapsed_ms) AS p95_ms, count(j.reward) AS judged,
               sum(j.reward) AS total_reward
        FROM answers a LEFT JOIN judged j USING (asked_at, request_id)
        WHERE a.asked_at >= :since AND a.policy IS NOT NULL GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 50""",
    "votes": """
        SELECT policy, count(*) AS steps, sum(num_votes) AS votes,
               sum(num_for_winner)::double precision / nullif(sum(num_votes), 0) AS for_winner,
               avg(agreement) AS agreement, avg((num_flips > 0)::int)::double precision AS flipped
        FROM verdicts WHERE asked_at >= :since AND launched > 1 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 50""",
    "correlated": """
        SELECT policy, arm, sum(num_questions)::bigint AS num_questions,
               sum(mean_votes * num_questions) / sum(num_questions) AS mean_votes, sum(none_wrong)::bigint AS none_wrong,
               sum(one_wrong)::bigint AS one_wrong, sum(two_wrong)::bigint AS two_wrong, sum(three_wrong)::bigint AS three_wrong
        FROM vote_correlation_by_day WHERE day >= date_trunc('day', CAST(:since AS timestamptz), 'UTC')
        GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 50""",
    "bounds": f"""
        WITH {_JUDGED},
        bounded AS (
            SELECT p.digest, concat(p.name, '@', p.version) AS policy,
                   (a.value #>> '{{params,quorum}}')::double precision AS quorum,
                   (a.value #>> '{{params,at_most_wrong}}')::double precision AS at_most_wrong
            FROM policies p CROSS JOIN LATERAL jsonb_each(p.policy -> 'asks') AS a WHERE a.value ->> 'voting' = 'quorum')
        SELECT b.policy, b.quorum, b.at_most_wrong, count(*) AS ended, count(*) FILTER (WHERE e.failure IS NULL) AS served,
               count(j.reward) FILTER (WHERE e.failure IS NULL) AS judged,
               sum(1 - j.reward) FILTER (WHERE e.failure IS NULL) AS wrong
        FROM plans l JOIN bounded b ON b.digest = l.policy_digest
        JOIN answers e USING (asked_at, request_id) LEFT JOIN judged j USING (asked_at, request_id)
        WHERE l.asked_at >= :since AND e.asked_at >= :since GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1 LIMIT 50""",
    "calibration": f"""
        WITH {_JUDGED}
        SELECT least(9, floor(a.confidence * 10))::int AS bin, count(*) AS judged, avg(a.confidence) AS confidence,
               sum(j.reward) AS total
        FROM answers a JOIN judged j USING (asked_at, request_id)
        WHERE a.asked_at >= :since AND a.failure IS NULL GROUP BY 1 ORDER BY 1""",
    "feedback": """
        SELECT rater, metric, count(*) AS pieces, avg(reward) AS reward,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM given_at - asked_at)) AS p50_s
        FROM given_feedback WHERE asked_at >= :since AND is_latest GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 50""",
    "shadows": """
        SELECT experiment, policy, shadow_policy, count(*) AS requests, count(is_same) AS compared,
               count(*) FILTER (WHERE is_same) AS same, count(*) FILTER (WHERE shadow_failure IS NULL) AS shadow_answered,
               avg(tokens_out)::double precision AS tokens_out, avg(shadow_tokens_out)::double precision AS shadow_tokens_out,
               avg(dollars) AS dollars, avg(shadow_dollars) AS shadow_dollars,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY elapsed_ms) AS p50_ms,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY shadow_elapsed_ms) AS shadow_p50_ms
        FROM shadow_answers WHERE asked_at >= :since AND is_ended AND is_shadow_ended
        GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT 50""",
    "failures": """
        SELECT failure, count(*) AS requests FROM answers WHERE asked_at >= :since AND failure IS NOT NULL
        GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20""",
    "queue": """
        SELECT reason, count(*) AS open FROM review_queue CROSS JOIN LATERAL unnest(reasons) AS reason
        WHERE asked_at >= :since AND num_reviews = 0 GROUP BY 1 ORDER BY 2 DESC, 1""",
    "worst": """
        SELECT request_id, question, answer, confidence, right_answer FROM worst_questions
        WHERE asked_at >= :since AND question <> '' ORDER BY confidence DESC NULLS LAST, asked_at DESC LIMIT 10""",
}


@dataclass(frozen=True, slots=True)
class Summary:
    """The rows of each question, by its name in this module, and since when they are."""

    since: datetime
    rows: Mapping[str, list[Record]]


async def summary(dsn: str, since: datetime) -> Summary:
    """The figures since a time. Raises: LostDependency."""
    engine = make_engine(dsn, statement_timeout_s=60.0, is_read_only=True)
    try:
        async with lost_when_away(), engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            found = {}
            for name, query in _QUERIES.items():
                rows = (await connection.execute(text(query), {"since": since})).mappings()
                found[name] = [dict(row) for row in rows]
            return Summary(since, found)
    finally:
        await engine.dispose()
