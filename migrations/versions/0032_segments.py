"""The segment of a request that an experiment with segments assigned; "" is none, NULL that the experiment has none."""

from alembic import op

revision = "0032"
down_revision = "0031"

_OUTCOMES = """
    WITH judged AS (
        SELECT f.asked_at, f.request_id, avg(f.reward) AS reward, count(f.reward) AS num_rewards, min(f.given_at) AS judged_at
        FROM given_feedback f WHERE f.is_latest AND f.step_index IS NULL AND f.metric = 'reward' GROUP BY 1, 2)
    SELECT p.experiment, p.revision, p.arm, p.unit, p.request_id, p.asked_at, p.propensity, p.weights_version,
           a.failure IS NULL AND a.request_id IS NOT NULL AS is_answered, a.confidence, a.num_paths, a.tokens_out,
           a.elapsed_ms, j.reward, coalesce(j.num_rewards, 0) AS num_rewards, j.judged_at{segment}
    FROM plans p
    LEFT JOIN answers a USING (asked_at, request_id)
    LEFT JOIN judged j USING (asked_at, request_id)
    WHERE p.experiment IS NOT NULL
"""
_RATIO = """
    SELECT experiment, revision, weights_version, arm, min(propensity) AS propensity, sum(requests)::bigint AS assigned,
           (sum(sum(requests)) OVER (PARTITION BY experiment, revision, weights_version) * min(propensity))::double precision
               AS expected{segment}
    FROM arm_hours {only} GROUP BY 1, 2, 3, 4
"""
# A function, as tenants may not read what was changed and by whom.
_SEGMENTED = """
CREATE FUNCTION experiments_with_segments() RETURNS TABLE (experiment text, revision bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT DISTINCT c.experiment, c.revision FROM public.experiment_changes c
    WHERE coalesce(c.event -> 'definition' ->> 'segment_by', '') <> ''
$$
"""
_HAS_NONE = """
    h WHERE NOT EXISTS (SELECT 1 FROM experiments_with_segments() s WHERE s.experiment = h.experiment AND s.revision = h.revision)
"""
_BY_SEGMENT = """
    SELECT experiment, revision, weights_version, arm, min(propensity) AS propensity, count(*) AS assigned,
           (sum(count(*)) OVER (PARTITION BY experiment, revision, weights_version, segment) * min(propensity))::double precision
               AS expected, segment
    FROM plans WHERE segment IS NOT NULL GROUP BY 1, 2, 3, 4, 8
"""


def upgrade() -> None:
    """A column more, here and in `experiment_outcomes`; shares are compared within it."""
    op.execute("ALTER TABLE plans ADD segment text")
    op.execute("CREATE INDEX plans_by_segment ON plans (experiment, revision, segment) WHERE segment IS NOT NULL")
    op.execute(f"CREATE OR REPLACE VIEW experiment_outcomes AS {_OUTCOMES.format(segment=', p.segment')}")
    op.execute(_SEGMENTED)
    by_version = _RATIO.format(segment=", NULL::text AS segment", only=_HAS_NONE)
    op.execute(f"CREATE OR REPLACE VIEW sample_ratio AS {by_version} UNION ALL {_BY_SEGMENT}")


def downgrade() -> None:
    """Without it again."""
    op.execute("DROP VIEW sample_ratio")
    op.execute(f"CREATE VIEW sample_ratio AS {_RATIO.format(segment='', only='')}")
    op.execute("DROP VIEW experiment_outcomes")
    op.execute(f"CREATE VIEW experiment_outcomes AS {_OUTCOMES.format(segment='')}")
    op.execute("GRANT SELECT ON sample_ratio, experiment_outcomes TO analyst")
    op.execute("DROP FUNCTION experiments_with_segments()")
    op.execute("ALTER TABLE plans DROP segment")
