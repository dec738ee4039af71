"""Which votes were right is told by their clusters, however the right answer is written.

`vote_correlation` and `vote_correlation_by_day` took a cluster for right where a path of it wrote the right answer to the letter.
"42.0" made all of a question's paths wrong that said 42, all of them together, which is the very thing that rho measures.

- Numbers are compared by value (`plain_answer`), also where several say what is right.
- Where no cluster has the right answer, and who gave it says that the answer served is right, the cluster that won is.
"""

from alembic import op

revision = "0039"
down_revision = "0038"

# Short enough for a number, which a cast would fail on otherwise, and the view with it.
_PLAIN = r"""
CREATE FUNCTION plain_answer(answer text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN btrim(answer, E' \t\r\n') ~ '^[+-]?([0-9]{1,40}|[1-9][0-9]{0,2}(,[0-9]{3}){1,12})([.][0-9]{1,40})?$'
                THEN trim_scale(replace(btrim(answer, E' \t\r\n'), ',', '')::numeric)::text
                ELSE lower(btrim(answer, E' \t\r\n')) END
$$
"""
_COMMENT = (
    "An answer without what makes no other of it: case, space around it, and how a number is written. What is the same "
    "here is the same vote; votes know more, as of units and formulas."
)
_CAST = """
    WITH known AS (
        SELECT asked_at, request_id, max(right_answer) AS right_answer{liked} FROM given_feedback
        WHERE is_latest AND right_answer IS NOT NULL AND asked_at > now() - interval '30 days' AND step_index IS NULL
        GROUP BY asked_at, request_id HAVING count(DISTINCT {right}) = 1
    ), cast_votes AS (
        SELECT b.asked_at, b.request_id, v.policy, {more}b.sample_index, coalesce({is_right}, false) AS is_right
        FROM known k
        JOIN answers a USING (asked_at, request_id)
        JOIN verdicts v ON (v.asked_at, v.request_id, v.step_index) = (a.asked_at, a.request_id, a.answered_by)
        JOIN ballots b ON (b.asked_at, b.request_id, b.step_index) = (v.asked_at, v.request_id, v.step_index)
        JOIN paths p ON (p.asked_at, p.request_id, p.step_index, p.sample_index)
            = (b.asked_at, b.request_id, b.step_index, b.sample_index)
        WHERE b.failure IS NULL
    )"""
# Of the ballots that a cluster has, whose answer is the one that the tally has of it; or of all.
_IN_CLUSTER = "bool_or({same}) OVER (PARTITION BY b.asked_at, b.request_id, b.answer)"
_IN_ANY = "bool_or({same}) OVER (PARTITION BY b.asked_at, b.request_id)"
_BY_VALUE = "plain_answer(p.answer) = plain_answer(k.right_answer)"
_BY_LETTERS = "lower(btrim(p.answer)) = lower(btrim(k.right_answer))"
_IS_RIGHT = (
    f"{_IN_CLUSTER.format(same=_BY_VALUE)}"
    f" OR (k.is_served_right AND b.answer = v.answer AND NOT coalesce({_IN_ANY.format(same=_BY_VALUE)}, false))"
)
_LIKED = ", bool_and(reward = 1) FILTER (WHERE metric = 'reward' AND reward IS NOT NULL) AS is_served_right"
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
        SELECT date_trunc('day', asked_at, 'UTC') AS day, policy, arm, max(num_votes) AS num_votes,
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
           CASE WHEN rho IS NOT NULL THEN mean_votes / (1 + (mean_votes - 1) * least(greatest(rho, 0), 1)) END
               AS effective_votes,
           none_wrong, one_wrong, two_wrong, three_wrong
    FROM correlated
"""


def upgrade() -> None:
    """The same columns, of the same feedback, better understood."""
    op.execute(_PLAIN)
    op.execute(f"COMMENT ON FUNCTION plain_answer IS '{_COMMENT}'")
    _views(liked=_LIKED, right="plain_answer(right_answer)", is_right=_IS_RIGHT)


def downgrade() -> None:
    """Letter by letter again."""
    _views(liked="", right="lower(btrim(right_answer))", is_right=_IN_CLUSTER.format(same=_BY_LETTERS))
    op.execute("DROP FUNCTION plain_answer(text)")


def _views(**parts: str) -> None:
    op.execute(f"CREATE OR REPLACE VIEW vote_correlation AS {_CAST.format(more='', **parts)}{_OVERALL}")
    by_day = _CAST.format(more="v.arm, v.num_votes, ", **parts) + _BY_DAY
    op.execute(f"CREATE OR REPLACE VIEW vote_correlation_by_day AS {by_day}")
