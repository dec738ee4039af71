"""How much errors of paths go together is told by what is known of the answer, not of a step on the way to it.

- `vote_correlation` and `vote_correlation_by_day` took a right answer that was given for a step, or for a path of one, for that
  of the request: the votes on its answer were then all wrong.
- `effective_votes` of a day on which rho can't be told is not known, where it was all of its votes: GREATEST passes over NULL.
"""

from alembic import op

revision = "0037"
down_revision = "0036"

_OF_THE_ANSWER = " AND step_index IS NULL"
_CAST = """
    WITH known AS (
        SELECT asked_at, request_id, max(right_answer) AS right_answer FROM given_feedback
        WHERE is_latest AND right_answer IS NOT NULL AND asked_at > now() - interval '30 days'{only}
        GROUP BY asked_at, request_id HAVING count(DISTINCT lower(btrim(right_answer))) = 1
    ), cast_votes AS (
        SELECT b.asked_at, b.request_id, v.policy, {more}b.sample_index,
               coalesce(bool_or(lower(btrim(p.answer)) = lower(btrim(k.right_answer)))
                   OVER (PARTITION BY b.asked_at, b.request_id, b.answer), false) AS is_right
        FROM known k
        JOIN answers a USING (asked_at, request_id)
        JOIN verdicts v ON (v.asked_at, v.request_id, v.step_index) = (a.asked_at, a.request_id, a.answered_by)
        JOIN ballots b ON (b.asked_at, b.request_id, b.step_index) = (v.asked_at, v.request_id, v.step_index)
        JOIN paths p ON (p.asked_at, p.request_id, p.step_index, p.sample_index)
            = (b.asked_at, b.request_id, b.step_index, b.sample_index)
        WHERE b.failure IS NULL
    )"""
_OVERALL = """, questions AS (
        SELECT policy, count(*) FILTER (WHERE NOT is_right) AS wrong
        FROM cast_votes WHERE sample_index < 3 GROUP BY asked_at, request_id, policy HAVING count(*) = 3
    ), moments AS (
        SELECT policy, count(*) AS num_questions, avg(wrong / 3.0) AS error_rate, avg(wrong * (wrong - 1) / 6.0) AS both_wrong
        FROM questions GROUP BY policy
    )
    SELECT policy, num_questions, error_rate::double precision,
           (CASE WHEN error_rate * (1 - error_rate) > 0
                 THEN (both_wrong - error_rate ^ 2) / (error_rate * (1 - error_rate)) END)::double precision AS rho
    FROM moments
"""
_BY_DAY = """, questions AS (
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
           {worth} AS effective_votes,
           none_wrong, one_wrong, two_wrong, three_wrong
    FROM correlated
"""
_WORTH = "mean_votes / (1 + (mean_votes - 1) * least(greatest(rho, 0), 1))"


def upgrade() -> None:
    """The same columns, of fewer rows of feedback."""
    _view(_OF_THE_ANSWER, f"CASE WHEN rho IS NOT NULL THEN {_WORTH} END")


def downgrade() -> None:
    """As it was."""
    _view("", _WORTH)


def _view(only: str, worth: str) -> None:
    # The first leans on no column that is younger than it is, so that those can be taken away again.
    op.execute(f"CREATE OR REPLACE VIEW vote_correlation AS {_CAST.format(only=only, more='')}{_OVERALL}")
    by_day = _CAST.format(only=only, more="v.arm, v.num_votes, ") + _BY_DAY.format(worth=worth)
    op.execute(f"CREATE OR REPLACE VIEW vote_correlation_by_day AS {by_day}")
