"""A review queue that several reviewers can work at, filled by disagreement.

- `review_queue` also holds answers whose vote changed its lead on the way, says how many experts have judged each, and keeps those
  that they have: who asks says how many it takes.
- `review_claims` has who has taken which until when. Analysts don't see it.
"""

from alembic import op

revision = "0019"
down_revision = "0018"

_QUEUE = """
    WITH judged AS (
        SELECT f.asked_at, f.request_id, avg(f.reward) FILTER (WHERE f.rater <> 'expert') AS reward,
               count(DISTINCT f.source) FILTER (WHERE f.rater = 'expert') AS num_reviews
        FROM given_feedback f WHERE f.is_latest AND f.step_index IS NULL AND f.metric = 'reward' GROUP BY 1, 2),
    looked_at AS (
        SELECT a.request_id, a.asked_at, p.question, a.answer, a.confidence, a.margin, j.reward, a.policy, a.arm,
               array_remove(ARRAY[
                   CASE WHEN j.reward < 0.5 THEN 'disliked' END,
                   CASE WHEN a.margin < 0.2 THEN 'low margin' END,
                   CASE WHEN v.num_flips > 0 THEN 'flipped' END,
                   CASE WHEN ('x' || substr(md5(a.request_id::text), 1, 4))::bit(16)::int < 65536 / 50 THEN 'at random' END
               ], NULL) AS reasons,
               coalesce(j.num_reviews, 0) AS num_reviews
        FROM answers a
        LEFT JOIN verdicts v ON v.asked_at = a.asked_at AND v.request_id = a.request_id AND v.step_index = a.answered_by
        LEFT JOIN judged j ON j.asked_at = a.asked_at AND j.request_id = a.request_id
        LEFT JOIN request_payloads p ON p.asked_at = a.asked_at AND p.request_id = a.request_id
        WHERE a.failure IS NULL AND p.question IS DISTINCT FROM '')
    SELECT * FROM looked_at WHERE reasons <> '{}'
"""
_QUEUE_0016 = """
    WITH judged AS (
        SELECT f.asked_at, f.request_id, avg(f.reward) AS reward, bool_or(f.rater = 'expert') AS is_reviewed
        FROM given_feedback f WHERE f.is_latest AND f.step_index IS NULL AND f.metric = 'reward' GROUP BY 1, 2),
    looked_at AS (
        SELECT a.request_id, a.asked_at, p.question, a.answer, a.confidence, a.margin, j.reward, a.policy, a.arm,
               array_remove(ARRAY[
                   CASE WHEN j.reward < 0.5 THEN 'disliked' END,
                   CASE WHEN a.margin < 0.2 THEN 'low margin' END,
                   CASE WHEN ('x' || substr(md5(a.request_id::text), 1, 4))::bit(16)::int < 65536 / 50 THEN 'at random' END
               ], NULL) AS reasons
        FROM answers a
        LEFT JOIN judged j USING (asked_at, request_id)
        LEFT JOIN request_payloads p USING (asked_at, request_id)
        WHERE a.failure IS NULL AND NOT coalesce(j.is_reviewed, false))
    SELECT * FROM looked_at WHERE reasons <> '{}'
"""
_COMMENT = (
    "One row an answer that experts should look at: disliked, won by little, flipped on the way, or one in fifty at random; and "
    "how many have."
)
_COMMENT_0016 = (
    "One row an answer that an expert should look at and none has: disliked, won by little, or one in fifty at random."
)


def upgrade() -> None:
    """Nothing is claimed yet."""
    op.execute("""
        CREATE TABLE review_claims (
            request_id uuid NOT NULL, reviewer text NOT NULL, state text NOT NULL CHECK (state IN ('claimed', 'judged', 'skipped')),
            until timestamptz NOT NULL, PRIMARY KEY (request_id, reviewer))
    """)
    _view(_QUEUE, _COMMENT)


def downgrade() -> None:
    """Who had taken what is forgotten."""
    op.execute("DROP TABLE review_claims")
    _view(_QUEUE_0016, _COMMENT_0016)


def _view(query: str, comment: str) -> None:
    op.execute("DROP VIEW review_queue")
    op.execute(f"CREATE VIEW review_queue AS {query}")
    op.execute(f"COMMENT ON VIEW review_queue IS '{comment}'")
    op.execute("GRANT SELECT ON review_queue TO analyst")
