"""Views of experiments, rewards and calibration for analysts."""

from alembic import op

revision = "0016"
down_revision = "0015"

_CURRENT = "f.is_latest AND f.step_index IS NULL"
_VIEWS: tuple[tuple[str, str, str], ...] = (
    (
        "experiment_exposures",
        "One row an assigned request, in the shape that experiment platforms read: who saw which variation of what, and when.",
        """
        SELECT p.unit AS user_id, p.planned_at AS timestamp, p.experiment AS experiment_id, p.arm AS variation_id, p.revision,
               p.request_id, p.asked_at, p.propensity, p.weights_version, p.draw, p.policy
        FROM plans p WHERE p.experiment IS NOT NULL""",
    ),
    (
        "experiment_outcomes",
        "One row an assigned request with what came of it: answer, cost, and the mean reward of those who judged it.",
        f"""
        WITH judged AS (
            SELECT f.asked_at, f.request_id, avg(f.reward) AS reward, count(f.reward) AS num_rewards, min(f.given_at) AS judged_at
            FROM given_feedback f WHERE {_CURRENT} AND f.metric = 'reward' GROUP BY 1, 2)
        SELECT p.experiment, p.revision, p.arm, p.unit, p.request_id, p.asked_at, p.propensity, p.weights_version,
               a.failure IS NULL AND a.request_id IS NOT NULL AS is_answered, a.confidence, a.num_paths, a.tokens_out,
               a.elapsed_ms, j.reward, coalesce(j.num_rewards, 0) AS num_rewards, j.judged_at
        FROM plans p
        LEFT JOIN answers a USING (asked_at, request_id)
        LEFT JOIN judged j USING (asked_at, request_id)
        WHERE p.experiment IS NOT NULL""",
    ),
    (
        "arms_by_day",
        "One row an arm and day of asking: requests, answers, cost and rewards, late ones too.",
        """
        SELECT o.experiment, o.revision, o.arm, date_trunc('day', o.asked_at) AS day, count(*) AS requests,
               count(*) FILTER (WHERE o.is_answered) AS answered, count(o.reward) AS judged, avg(o.reward) AS mean_reward,
               avg(o.confidence) AS mean_confidence, avg(o.num_paths) AS mean_paths, avg(o.tokens_out) AS mean_tokens_out,
               avg(o.elapsed_ms) AS mean_ms
        FROM experiment_outcomes o GROUP BY 1, 2, 3, 4""",
    ),
    (
        "sample_ratio",
        "One row an arm and version of the weights that assigned anyone to it: requests, and how many its propensity lets expect.",
        """
        SELECT experiment, revision, weights_version, arm, min(propensity) AS propensity, count(*) AS assigned,
               sum(count(*)) OVER (PARTITION BY experiment, revision, weights_version) * min(propensity) AS expected
        FROM plans WHERE experiment IS NOT NULL GROUP BY 1, 2, 3, 4""",
    ),
    (
        "feedback_lag",
        "One row a day of asking and kind of rater: how long after the question feedback came.",
        """
        SELECT date_trunc('day', f.asked_at) AS day, f.rater, f.metric, count(*) AS pieces,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM f.given_at - f.asked_at)) AS p50_s,
               percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM f.given_at - f.asked_at)) AS p95_s
        FROM feedback f WHERE NOT f.is_withdrawn GROUP BY 1, 2, 3""",
    ),
    (
        "calibration_bins",
        "One row a policy and tenth of confidence: how sure its answers were, and how they were judged.",
        f"""
        SELECT a.policy, least(9, floor(a.confidence * 10))::int AS bin, count(*) AS judged, avg(a.confidence) AS mean_confidence,
               avg(f.reward) AS mean_reward
        FROM answers a JOIN given_feedback f USING (asked_at, request_id)
        WHERE a.failure IS NULL AND {_CURRENT} AND f.metric = 'reward' AND f.reward IS NOT NULL GROUP BY 1, 2""",
    ),
    (
        "worst_questions",
        "One row a question that was judged badly: what was answered, how surely, and what would have been right.",
        f"""
        SELECT f.request_id, f.asked_at, p.question, a.answer, a.confidence, a.margin, f.reward, f.right_answer, f.comment,
               f.rater, a.policy, a.arm
        FROM given_feedback f
        JOIN answers a USING (asked_at, request_id)
        LEFT JOIN request_payloads p USING (asked_at, request_id)
        WHERE {_CURRENT} AND f.metric = 'reward' AND f.reward < 0.5""",
    ),
    (
        "review_queue",
        "One row an answer that an expert should look at and none has: disliked, won by little, or one in fifty at random.",
        f"""
        WITH judged AS (
            SELECT f.asked_at, f.request_id, avg(f.reward) AS reward, bool_or(f.rater = 'expert') AS is_reviewed
            FROM given_feedback f WHERE {_CURRENT} AND f.metric = 'reward' GROUP BY 1, 2),
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
        SELECT * FROM looked_at WHERE reasons <> '{{}}'""",
    ),
)


def upgrade() -> None:
    """Makes the views, for analysts to read."""
    for name, comment, query in _VIEWS:
        op.execute(f"CREATE VIEW {name} AS {query}")
        op.execute(f"COMMENT ON VIEW {name} IS '{comment.replace(chr(39), chr(39) * 2)}'")
        op.execute(f"GRANT SELECT ON {name} TO analyst")


def downgrade() -> None:
    """Drops them."""
    for name, _, _ in reversed(_VIEWS):
        op.execute(f"DROP VIEW {name}")
