"""What dashboards add up is added up by the hour already, and is right at any moment all the same.

- The schema `rolled` holds a table for each of `_ROLLED`: a row an hour of asking and what it is of. `rolled.marks` has the hours
  in which something came since they were added up: the recorder marks them in the transaction that writes the rows
  (conclave.store.roll_ups).
- The views of the same names take hours from there, and those that are marked from the rows themselves: late feedback, redelivery
  or a roll-up that is late change nothing of what they say. `…_counted` takes all of it from the rows: for tenants, and check by.
- Figures are added up as decimal numbers, whose sums do not depend on an order.
- Latencies are counted in sixteenths of an octave, so percentiles by them are within 2.2 % of what they were.
"""

from alembic import op

revision = "0024"
down_revision = "0023"

_HOUR = "date_bin('1 hour', {of}.asked_at, '2000-01-01 00:00:00+00')"
_WITHIN = " AND {of}.asked_at >= m.hour AND {of}.asked_at < m.hour + interval '1 hour'"
# Its columns besides the hour, their types, and how they are counted. `{within_…}` holds a table to an hour, or to none.
_ROLLED: dict[str, tuple[str, dict[str, str], str]] = {
    "policy_hours": (
        "One row an hour of asking, policy and arm: answers, cost, and how many took how long (bucket b: from 2^(b/16) ms on).",
        {
            "policy": "text", "arm": "text", "requests": "bigint", "answered": "bigint", "with_confidence": "bigint",
            "sum_confidence": "numeric", "paths": "bigint", "tokens_in": "numeric", "tokens_out": "numeric",
            "latency_buckets": "smallint[]", "latency_counts": "bigint[]",
        },
        f"""
        SELECT t.hour, t.policy, t.arm, sum(t.requests)::bigint AS requests, sum(t.answered)::bigint AS answered,
               sum(t.with_confidence)::bigint AS with_confidence, sum(t.sum_confidence) AS sum_confidence,
               sum(t.paths)::bigint AS paths, sum(t.tokens_in) AS tokens_in, sum(t.tokens_out) AS tokens_out,
               array_agg(t.bucket ORDER BY t.bucket) AS latency_buckets, array_agg(t.requests ORDER BY t.bucket) AS latency_counts
        FROM (SELECT {_HOUR.format(of="a")} AS hour, a.policy, a.arm,
                     floor(16 * ln(greatest(a.elapsed_ms, 0.001)) / ln(2.0::double precision))::smallint AS bucket,
                     count(*) AS requests, count(*) FILTER (WHERE a.failure IS NULL) AS answered,
                     count(a.confidence) AS with_confidence, coalesce(sum(a.confidence::numeric), 0) AS sum_confidence,
                     sum(a.num_paths) AS paths, sum(a.tokens_in) AS tokens_in, sum(a.tokens_out) AS tokens_out
              FROM answers a WHERE true {{within_a}} GROUP BY 1, 2, 3, 4) t
        GROUP BY 1, 2, 3""",
    ),
    "vote_hours": (
        "One row an hour of asking, policy and arm: steps decided, and how their votes fell.",
        {
            "policy": "text", "arm": "text", "steps": "bigint", "votes": "bigint", "votes_for_winner": "bigint",
            "sum_agreement": "numeric", "sum_entropy": "numeric", "flipped_steps": "bigint", "flips": "bigint",
        },
        f"""
        SELECT {_HOUR.format(of="v")} AS hour, v.policy, v.arm, count(*) AS steps, sum(v.num_votes) AS votes,
               sum(v.num_for_winner) AS votes_for_winner, sum(v.agreement::numeric) AS sum_agreement,
               sum(v.entropy::numeric) AS sum_entropy, count(*) FILTER (WHERE v.num_flips > 0) AS flipped_steps,
               sum(v.num_flips) AS flips
        FROM verdicts v WHERE true {{within_v}} GROUP BY 1, 2, 3""",
    ),
    "arm_hours": (
        "One row an hour of asking, arm of an experiment and version of its weights: requests, answers, cost, rewards.",
        {
            "experiment": "text", "revision": "bigint", "arm": "text", "weights_version": "bigint", "requests": "bigint",
            "propensity": "double precision", "ended": "bigint", "answered": "bigint", "judged": "bigint",
            "sum_reward": "numeric", "with_confidence": "bigint", "sum_confidence": "numeric", "paths": "bigint",
            "tokens_out": "numeric", "sum_ms": "numeric",
        },
        f"""
        WITH opinions AS MATERIALIZED (
            SELECT f.* FROM feedback f WHERE true {{within_f}}),
        ended AS MATERIALIZED (
            SELECT asked_at, request_id, event_source, supersedes AS event_id, bool_or(NOT is_withdrawn) AS is_replaced
            FROM opinions WHERE supersedes IS NOT NULL GROUP BY 1, 2, 3, 4),
        held AS (
            SELECT o.asked_at, o.request_id, o.reward, e.event_id IS NOT NULL AS is_ended,
                   row_number() OVER (PARTITION BY o.asked_at, o.request_id, o.source, o.sample_index,
                                                   coalesce(e.is_replaced, false)
                                      ORDER BY o.given_at DESC, o.event_source DESC, o.event_id DESC) AS place
            FROM opinions o LEFT JOIN ended e USING (asked_at, request_id, event_source, event_id)
            WHERE NOT o.is_withdrawn AND o.step_index IS NULL AND o.metric = 'reward'),
        judged AS MATERIALIZED (
            SELECT asked_at, request_id, avg(reward) AS reward FROM held WHERE place = 1 AND NOT is_ended GROUP BY 1, 2)
        SELECT {_HOUR.format(of="p")} AS hour, p.experiment, p.revision, p.arm, p.weights_version, count(*) AS requests,
               min(p.propensity) AS propensity, count(a.request_id) AS ended,
               count(*) FILTER (WHERE a.request_id IS NOT NULL AND a.failure IS NULL) AS answered, count(j.reward) AS judged,
               coalesce(sum(j.reward::numeric), 0) AS sum_reward, count(a.confidence) AS with_confidence,
               coalesce(sum(a.confidence::numeric), 0) AS sum_confidence, coalesce(sum(a.num_paths), 0) AS paths,
               coalesce(sum(a.tokens_out), 0) AS tokens_out, coalesce(sum(a.elapsed_ms::numeric), 0) AS sum_ms
        FROM plans p
        LEFT JOIN answers a ON a.asked_at = p.asked_at AND a.request_id = p.request_id {{within_a}}
        LEFT JOIN judged j ON j.asked_at = p.asked_at AND j.request_id = p.request_id
        WHERE p.experiment IS NOT NULL {{within_p}} GROUP BY 1, 2, 3, 4, 5""",
    ),
}  # fmt: skip
_ALL_ROWS = dict.fromkeys(("within_a", "within_v", "within_f", "within_p"), "")
_OF_AN_HOUR = {name: _WITHIN.format(of=name[-1]) for name in _ALL_ROWS}

# Of views that were there before: what they are now, and what they were.
_PERCENTILE = "min(power(2, (bucket + 0.5) / 16)) FILTER (WHERE upto >= {share} * num)"
_VIEWS = {
    "policy_cost": (
        f"""
        WITH summed AS (
            SELECT policy, arm, sum(requests)::bigint AS requests, sum(answered)::bigint AS answered,
                   sum(with_confidence) AS with_confidence, sum(sum_confidence) AS sum_confidence, sum(paths) AS paths,
                   sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out
            FROM policy_hours GROUP BY 1, 2),
        counted AS (
            SELECT policy, arm, u.bucket, sum(u.num) AS num
            FROM policy_hours CROSS JOIN LATERAL unnest(latency_buckets, latency_counts) AS u (bucket, num) GROUP BY 1, 2, 3),
        ranked AS (
            SELECT policy, arm, bucket, sum(num) OVER (PARTITION BY policy, arm ORDER BY bucket) AS upto,
                   sum(num) OVER (PARTITION BY policy, arm) AS num
            FROM counted),
        timed AS (
            SELECT policy, arm, {_PERCENTILE.format(share=0.5)} AS p50_ms, {_PERCENTILE.format(share=0.95)} AS p95_ms
            FROM ranked GROUP BY 1, 2)
        SELECT s.policy, s.arm, s.requests, s.answered,
               (s.sum_confidence / nullif(s.with_confidence, 0))::double precision AS mean_confidence,
               s.paths / s.requests AS mean_paths, s.tokens_in, s.tokens_out, s.tokens_out / s.requests AS mean_tokens_out,
               t.p50_ms::double precision AS p50_ms, t.p95_ms::double precision AS p95_ms
        FROM summed s JOIN timed t ON t.policy IS NOT DISTINCT FROM s.policy AND t.arm IS NOT DISTINCT FROM s.arm""",
        """
        SELECT policy, arm, count(*) AS requests, count(*) FILTER (WHERE failure IS NULL) AS answered,
               avg(confidence) AS mean_confidence, avg(num_paths) AS mean_paths, sum(tokens_in) AS tokens_in,
               sum(tokens_out) AS tokens_out, avg(tokens_out) AS mean_tokens_out,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY elapsed_ms) AS p50_ms,
               percentile_cont(0.95) WITHIN GROUP (ORDER BY elapsed_ms) AS p95_ms
        FROM answers GROUP BY policy, arm""",
    ),
    "arm_votes": (
        """
        SELECT policy, arm, sum(steps)::bigint AS steps, sum(votes)::bigint AS votes,
               sum(votes_for_winner)::bigint AS votes_for_winner,
               sum(votes_for_winner)::double precision / nullif(sum(votes), 0)::double precision AS share_for_winner,
               (sum(sum_agreement) / sum(steps))::double precision AS mean_agreement,
               (sum(sum_entropy) / sum(steps))::double precision AS mean_entropy, sum(flipped_steps)::bigint AS flipped_steps,
               sum(flips)::bigint AS flips
        FROM vote_hours GROUP BY policy, arm""",
        """
        SELECT policy, arm, count(*) AS steps, sum(num_votes) AS votes, sum(num_for_winner) AS votes_for_winner,
               sum(num_for_winner)::double precision / nullif(sum(num_votes), 0) AS share_for_winner,
               avg(agreement) AS mean_agreement, avg(entropy) AS mean_entropy,
               count(*) FILTER (WHERE num_flips > 0) AS flipped_steps, sum(num_flips) AS flips
        FROM verdicts GROUP BY policy, arm""",
    ),
    "arms_by_day": (
        """
        SELECT experiment, revision, arm, date_trunc('day', hour) AS day, sum(requests)::bigint AS requests,
               sum(answered)::bigint AS answered, sum(judged)::bigint AS judged,
               (sum(sum_reward) / nullif(sum(judged), 0))::double precision AS mean_reward,
               (sum(sum_confidence) / nullif(sum(with_confidence), 0))::double precision AS mean_confidence,
               sum(paths) / nullif(sum(ended), 0) AS mean_paths, sum(tokens_out) / nullif(sum(ended), 0) AS mean_tokens_out,
               (sum(sum_ms) / nullif(sum(ended), 0))::double precision AS mean_ms
        FROM arm_hours GROUP BY 1, 2, 3, 4""",
        """
        SELECT o.experiment, o.revision, o.arm, date_trunc('day', o.asked_at) AS day, count(*) AS requests,
               count(*) FILTER (WHERE o.is_answered) AS answered, count(o.reward) AS judged, avg(o.reward) AS mean_reward,
               avg(o.confidence) AS mean_confidence, avg(o.num_paths) AS mean_paths, avg(o.tokens_out) AS mean_tokens_out,
               avg(o.elapsed_ms) AS mean_ms
        FROM experiment_outcomes o GROUP BY 1, 2, 3, 4""",
    ),
    "sample_ratio": (
        """
        SELECT experiment, revision, weights_version, arm, min(propensity) AS propensity, sum(requests)::bigint AS assigned,
               (sum(sum(requests)) OVER (PARTITION BY experiment, revision, weights_version) * min(propensity))::double precision
                   AS expected
        FROM arm_hours GROUP BY 1, 2, 3, 4""",
        """
        SELECT experiment, revision, weights_version, arm, min(propensity) AS propensity, count(*) AS assigned,
               sum(count(*)) OVER (PARTITION BY experiment, revision, weights_version) * min(propensity) AS expected
        FROM plans WHERE experiment IS NOT NULL GROUP BY 1, 2, 3, 4""",
    ),
}


def upgrade() -> None:
    """Marks all that there is: it is added up by the recorder once it runs, and from its rows until then."""
    op.execute("CREATE SCHEMA rolled")
    op.execute("CREATE TABLE rolled.marks (hour timestamptz NOT NULL)")
    for name, (comment, columns, query) in _ROLLED.items():
        typed, listed = ", ".join(f"{column} {kind}" for column, kind in columns.items()), ", ".join(columns)
        op.execute(f"CREATE TABLE rolled.{name} (hour timestamptz NOT NULL, {typed})")
        op.execute(f"CREATE INDEX {name}_hour ON rolled.{name} (hour)")
        op.execute(f"CREATE VIEW rolled.{name}_counted AS SELECT hour, {listed} FROM ({query.format(**_ALL_ROWS)}) c")
        op.execute(f"""
            CREATE VIEW rolled.{name}_marked AS SELECT m.hour, {listed} FROM (SELECT DISTINCT hour FROM rolled.marks) m
            CROSS JOIN LATERAL ({query.format(**_OF_AN_HOUR)}) c
        """)
        op.execute(f"""
            CREATE VIEW {name} AS SELECT hour, {listed} FROM rolled.{name} r
            WHERE NOT EXISTS (SELECT FROM rolled.marks m WHERE m.hour = r.hour)
            UNION ALL SELECT hour, {listed} FROM rolled.{name}_marked
        """)
        op.execute(f"COMMENT ON VIEW {name} IS '{comment}'")
        op.execute(f"GRANT SELECT ON {name} TO analyst")
    for name, (query, _) in _VIEWS.items():
        op.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
    seen = " UNION ".join(
        f"SELECT {_HOUR.format(of=table)} FROM {table}" for table in ("plans", "answers", "verdicts", "feedback")
    )
    op.execute(f"INSERT INTO rolled.marks {seen}")


def downgrade() -> None:
    """Everything is counted from its rows at each question again."""
    for name, (_, query) in _VIEWS.items():
        op.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
    for name in _ROLLED:
        op.execute(f"DROP VIEW {name}")
    op.execute("DROP SCHEMA rolled CASCADE")
