"""Answers of shadows next to those that were served, and no words of copies where none are kept of what they copy.

- `plans` says of a copy what it is a copy of, and for which experiment.
- The gateway's ledger knows the id that a request's copy would have, so that what is not kept of the one is not kept of the other.
- Copies are not looked at by reviewers.
"""

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

from schemas.ids import shadow_id

revision = "0023"
down_revision = "0022"

# A copy's id holds the time of what it copies, so both lie in one partition. The dearest price of a policy, as for its budget.
_ANSWERS = """
    WITH priced AS (
        SELECT digest, max((price.value ->> 'tokens_in')::double precision) AS of_in,
               max((price.value ->> 'tokens_out')::double precision) AS of_out
        FROM policies, jsonb_each(policy -> 'prices') AS price GROUP BY digest)
    SELECT c.shadow_experiment AS experiment, c.shadow_of AS request_id, c.request_id AS shadow_id, c.asked_at,
           p.policy, c.policy AS shadow_policy, a.answer, s.answer AS shadow_answer,
           CASE WHEN a.failure IS NULL AND s.failure IS NULL THEN a.answer = s.answer END AS is_same,
           a.request_id IS NOT NULL AS is_ended, s.request_id IS NOT NULL AS is_shadow_ended, a.failure,
           s.failure AS shadow_failure, a.confidence, s.confidence AS shadow_confidence, a.num_paths,
           s.num_paths AS shadow_num_paths, a.tokens_in, s.tokens_in AS shadow_tokens_in, a.tokens_out,
           s.tokens_out AS shadow_tokens_out,
           (a.tokens_in * pp.of_in + a.tokens_out * pp.of_out) / 1e6 AS dollars,
           (s.tokens_in * sp.of_in + s.tokens_out * sp.of_out) / 1e6 AS shadow_dollars,
           a.elapsed_ms, s.elapsed_ms AS shadow_elapsed_ms
    FROM plans c
    LEFT JOIN plans p ON p.asked_at = c.asked_at AND p.request_id = c.shadow_of
    LEFT JOIN answers a ON a.asked_at = c.asked_at AND a.request_id = c.shadow_of
    LEFT JOIN answers s ON s.asked_at = c.asked_at AND s.request_id = c.request_id
    LEFT JOIN priced pp ON pp.digest = p.policy_digest
    LEFT JOIN priced sp ON sp.digest = c.policy_digest
    WHERE c.shadow_of IS NOT NULL
"""
# Both ended, so that a mean of one is of the same questions as that of the other.
_AGREEMENT = """
    SELECT experiment, policy, shadow_policy, count(*) AS requests,
           count(*) FILTER (WHERE failure IS NULL) AS answered, count(*) FILTER (WHERE shadow_failure IS NULL) AS shadow_answered,
           count(is_same) AS compared, count(*) FILTER (WHERE is_same) AS same,
           avg(tokens_out)::double precision AS mean_tokens_out, avg(shadow_tokens_out)::double precision AS shadow_mean_tokens_out,
           avg(dollars) AS mean_dollars, avg(shadow_dollars) AS shadow_mean_dollars, sum(shadow_dollars) AS shadow_total_dollars,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY elapsed_ms) AS p50_ms,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY shadow_elapsed_ms) AS shadow_p50_ms
    FROM shadow_answers WHERE is_ended AND is_shadow_ended GROUP BY 1, 2, 3
"""
_COMMENTS = {
    "shadow_answers": "One row a request that a shadow answered too, unseen: both answers, and what each cost.",
    "shadow_agreement": "One row an experiment and its two policies: how often both came to the same, and what each cost.",
}
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
        WHERE {served} AND p.question IS DISTINCT FROM '')
    SELECT * FROM looked_at WHERE reasons <> '{{}}'
"""
_SERVED_ONLY = "a.failure IS NULL AND a.arm IS DISTINCT FROM 'shadow'"
_QUEUE_COMMENT = (
    "One row an answer that experts should look at: disliked, won by little, flipped on the way, or one in fifty at random; and "
    "how many have."
)
_DAYS = 8  # a request may be that old when it is planned


def upgrade() -> None:
    """There are no copies yet; of requests that are under way there may be some."""
    op.execute("ALTER TABLE plans ADD shadow_of uuid, ADD shadow_experiment text")
    op.execute("CREATE INDEX plans_shadows ON plans (shadow_experiment, asked_at) WHERE shadow_of IS NOT NULL")
    op.execute("ALTER TABLE gateway_requests ADD shadow_id uuid")
    _derive()
    op.execute("CREATE INDEX gateway_requests_bare_shadows ON gateway_requests (shadow_id) WHERE content <> 'kept'")
    _queue(_SERVED_ONLY)
    for name, query in (("shadow_answers", _ANSWERS), ("shadow_agreement", _AGREEMENT)):
        op.execute(f"CREATE VIEW {name} AS {query}")
        op.execute(f"COMMENT ON VIEW {name} IS '{_COMMENTS[name]}'")
        op.execute(f"GRANT SELECT ON {name} TO analyst")


def downgrade() -> None:
    """Copies are requests like others again."""
    op.execute("DROP VIEW shadow_agreement")
    op.execute("DROP VIEW shadow_answers")
    _queue("a.failure IS NULL")
    op.execute("DROP INDEX gateway_requests_bare_shadows")
    op.execute("ALTER TABLE gateway_requests DROP shadow_id")
    op.execute("DROP INDEX plans_shadows")
    op.execute("ALTER TABLE plans DROP shadow_of, DROP shadow_experiment")


def _queue(served: str) -> None:
    op.execute(f"CREATE OR REPLACE VIEW review_queue AS {_QUEUE.format(served=served)}")
    op.execute(f"COMMENT ON VIEW review_queue IS '{_QUEUE_COMMENT}'")


def _derive() -> None:
    """The ids that copies would have of requests which may still be planned."""
    connection = op.get_bind()
    recent = sa.text(
        "SELECT request_id FROM gateway_requests WHERE content <> 'kept' AND created_at > now() - CAST(:age AS interval)"
    )
    for request_id in connection.execute(recent, {"age": timedelta(days=_DAYS)}).scalars().all():
        values = {"request": request_id, "shadow": shadow_id(str(request_id))}
        connection.execute(
            sa.text("UPDATE gateway_requests SET shadow_id = CAST(:shadow AS uuid) WHERE request_id = :request"), values
        )
