"""How much errors of paths on one question go together, day by day, by policy and arm: `vote_correlation` is of all days."""

from alembic import op

revision = "0031"
down_revision = "0030"

# As in `vote_correlation` (0008): the first three samples of a vote are launched whatever they say.
_BY_DAY = """
    WITH known AS (
        SELECT asked_at, request_id, max(right_answer) AS right_answer FROM given_feedback
        WHERE is_latest AND right_answer IS NOT NULL AND asked_at > now() - interval '30 days'
        GROUP BY asked_at, request_id HAVING count(DISTINCT lower(btrim(right_answer))) = 1
    ), cast_votes AS (
        SELECT b.asked_at, b.request_id, v.policy, v.arm, v.num_votes, b.sample_index,
               coalesce(bool_or(lower(btrim(p.answer)) = lower(btrim(k.right_answer)))
                   OVER (PARTITION BY b.asked_at, b.request_id, b.answer), false) AS is_right
        FROM known k
        JOIN answers a USING (asked_at, request_id)
        JOIN verdicts v ON (v.asked_at, v.request_id, v.step_index) = (a.asked_at, a.request_id, a.answered_by)
        JOIN ballots b ON (b.asked_at, b.request_id, b.step_index) = (v.asked_at, v.request_id, v.step_index)
        JOIN paths p ON (p.asked_at, p.request_id, p.step_index, p.sample_index)
            = (b.asked_at, b.request_id, b.step_index, b.sample_index)
        WHERE b.failure IS NULL
    ), questions AS (
        SELECT date_trunc('day', asked_at) AS day, policy, arm, max(num_votes) AS num_votes,
               count(*) FILTER (WHERE NOT is_right) AS wrong
        FROM cast_votes WHERE sample_index < 3 GROUP BY asked_at, request_id, policy, arm HAVING count(*) = 3
    ), moments AS (
        SELECT day, policy, arm, count(*) AS num_questions, avg(num_votes)::double precision AS mean_votes,
               count(*) FILTER (WHERE wrong = 0) AS none_wrong, count(*) FILTER (WHERE wrong = 1) AS one_wrong,
               count(*) FILTER (WHERE wrong = 2) AS two_wrong, count(*) FILTER (WHERE wrong = 3) AS three_wrong,
               avg(wrong / 3.0)::double precision AS error_rate, avg(wrong * (wrong - 1) / 6.0)::double precision AS both_wrong
        FROM questions GROUP BY 1, 2, 3
    ), correlated AS (
        SELECT m.*, CASE WHEN error_rate > 0 AND error_rate < 1
                         THEN (both_wrong - error_rate ^ 2) / (error_rate * (1 - error_rate)) END AS rho
        FROM moments m
    )
    SELECT day, policy, arm, num_questions, error_rate, rho, mean_votes,
           mean_votes / (1 + (mean_votes - 1) * least(greatest(rho, 0), 1)) AS effective_votes,
           none_wrong, one_wrong, two_wrong, three_wrong
    FROM correlated
"""
_COMMENT = (
    "One row a day of asking, policy and arm: rho as in vote_correlation, how many votes there were and what they are worth, "
    "and in how many questions none, one, two or three of the first three paths were wrong."
)


def upgrade() -> None:
    """A view more."""
    op.execute(f"CREATE VIEW vote_correlation_by_day AS {_BY_DAY}")
    op.execute(f"COMMENT ON VIEW vote_correlation_by_day IS '{_COMMENT}'")
    op.execute("GRANT SELECT ON vote_correlation_by_day TO analyst")


def downgrade() -> None:
    """A view fewer."""
    op.execute("DROP VIEW vote_correlation_by_day")
