"""Whether a shadow's answer was the same outlives its words, and what the reweighter did to an experiment is in its history.

- Erasing blanks answers; that two were the same is a figure, by which a shadow's checks are counted again.
- `experiment_history` has, besides what people changed, what the weights say: a shadow that became a ramp or ended, an arm that is
  out, a winner.
"""

from alembic import op

revision = "0028"
down_revision = "0027"

_IS_SAME = "a.answer = s.answer"
_KEPT = "coalesce(c.is_same_answer, a.answer = s.answer)"
_ANSWERS = """
    WITH priced AS (
        SELECT digest, max((price.value ->> 'tokens_in')::double precision) AS of_in,
               max((price.value ->> 'tokens_out')::double precision) AS of_out
        FROM policies, jsonb_each(policy -> 'prices') AS price GROUP BY digest)
    SELECT c.shadow_experiment AS experiment, c.shadow_of AS request_id, c.request_id AS shadow_id, c.asked_at,
           p.policy, c.policy AS shadow_policy, a.answer, s.answer AS shadow_answer,
           CASE WHEN a.failure IS NULL AND s.failure IS NULL THEN {is_same} END AS is_same,
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
_BY_PEOPLE = "SELECT experiment, revision, change, arm, changed_at, changed_by, why, digest FROM experiment_changes"
_BY_WEIGHTS = """
    SELECT w.experiment, w.revision, w.reason,
           coalesce(w.winner, (SELECT min(arm) FROM jsonb_object_keys(e.event -> 'out') AS arm)),
           to_timestamp((e.event ->> 'as_of_ms')::bigint / 1000.0), 'reweighter', coalesce(e.event ->> 'why', ''), w.digest
    FROM weight_versions w CROSS JOIN LATERAL (SELECT w.event::jsonb AS event) e
    WHERE w.reason IN ('ramp', 'check', 'guardrail', 'winner')
"""


def upgrade() -> None:
    """Of what was erased before it is not known any more."""
    op.execute("ALTER TABLE plans ADD is_same_answer boolean")
    op.execute(f"CREATE OR REPLACE VIEW shadow_answers AS {_ANSWERS.format(is_same=_KEPT)}")
    op.execute(f"CREATE OR REPLACE VIEW experiment_history AS {_BY_PEOPLE} UNION ALL {_BY_WEIGHTS}")
    op.execute(
        "COMMENT ON VIEW experiment_history IS 'One row a change of an experiment: what, when, by whom and why.'"
    )


def downgrade() -> None:
    """The history is of people's changes again."""
    op.execute(f"CREATE OR REPLACE VIEW experiment_history AS {_BY_PEOPLE}")
    op.execute(f"CREATE OR REPLACE VIEW shadow_answers AS {_ANSWERS.format(is_same=_IS_SAME)}")
    op.execute("ALTER TABLE plans DROP is_same_answer")
