"""Feedback on anything, by anyone, replaced or taken back; and every version of an experiment's weights.

- `feedback` says of what metric it is, who gives it, and whether it is about the answer, a step or a path.
- `given_feedback` says which opinion of a source holds on each metric of each of these: the latest that was neither replaced nor
  withdrawn. What a withdrawn opinion had replaced does not come back.
- `weight_versions` is the reweighter's own: the weights as they are published, with the digest of the version before.
"""

from alembic import op

revision = "0015"
down_revision = "0014"

_OF_FEEDBACK = {
    "metric": "text NOT NULL DEFAULT 'reward'",
    "rater": "text NOT NULL DEFAULT 'user'",
    "step_index": "smallint",
    "sample_index": "smallint",
    "rating": "double precision",
    "scale": "smallint",
    "supersedes": "text",
    "is_withdrawn": "boolean NOT NULL DEFAULT false",
}
_OF_PAYLOADS = {"about_answer": "text", "chosen": "text", "rejected": "text"}
_GIVEN_FEEDBACK = """
    WITH ended AS (
        SELECT asked_at, request_id, event_source, supersedes AS event_id, bool_or(is_withdrawn) AS is_taken_back,
               bool_or(NOT is_withdrawn) AS is_replaced
        FROM feedback WHERE supersedes IS NOT NULL GROUP BY 1, 2, 3, 4)
    SELECT f.request_id, f.asked_at, f.given_at, f.source, f.reward, t.right_answer, t.comment, a.answer, a.policy, a.arm,
           NOT f.is_withdrawn AND e.event_id IS NULL
           AND row_number() OVER (PARTITION BY f.asked_at, f.request_id, f.source, f.metric, f.step_index, f.sample_index,
                                               f.is_withdrawn OR coalesce(e.is_replaced, false)
                                  ORDER BY f.given_at DESC, f.event_source DESC, f.event_id DESC) = 1 AS is_latest,
           f.event_source, f.event_id, f.metric, f.rater, f.step_index, f.sample_index, f.rating, f.scale, t.about_answer,
           t.chosen, t.rejected, f.supersedes, f.is_withdrawn, coalesce(e.is_replaced, false) AS is_replaced,
           coalesce(e.is_taken_back, false) AS is_taken_back
    FROM feedback f
    LEFT JOIN ended e USING (asked_at, request_id, event_source, event_id)
    LEFT JOIN feedback_payloads t USING (asked_at, request_id, event_source, event_id)
    LEFT JOIN answers a USING (asked_at, request_id)
"""
_GIVEN_FEEDBACK_0002 = """
    SELECT f.request_id, f.asked_at, f.given_at, f.source, f.reward, t.right_answer, t.comment, a.answer, a.policy, a.arm,
           row_number() OVER (PARTITION BY f.asked_at, f.request_id, f.source
                              ORDER BY f.given_at DESC, f.event_source DESC, f.event_id DESC) = 1 AS is_latest,
           f.event_source, f.event_id
    FROM feedback f
    LEFT JOIN feedback_payloads t USING (asked_at, request_id, event_source, event_id)
    LEFT JOIN answers a USING (asked_at, request_id)
"""
_ORPHANS = """
    SELECT f.request_id, f.asked_at, f.given_at, f.source, f.metric, f.reward, f.event_source, f.event_id
    FROM feedback f
    WHERE NOT EXISTS (SELECT FROM requests r WHERE r.asked_at = f.asked_at AND r.request_id = f.request_id)
"""
_COMMENTS = {
    "given_feedback": "One row a piece of feedback, next to the answer that it is about. is_latest: it holds.",
    "orphan_feedback": "One row a piece of feedback on a request that is not recorded, yet or ever.",
    "weights_history": "One row a version of an experiment''s weights, and why it came to be.",
}


def upgrade() -> None:
    """Feedback of before is a user's, on the answer."""
    for table, columns in (("feedback", _OF_FEEDBACK), ("feedback_payloads", _OF_PAYLOADS)):
        for name, kind in columns.items():
            op.execute(f"ALTER TABLE {table} ADD {name} {kind}")
    op.execute("""
        CREATE TABLE weight_versions (
            experiment text NOT NULL, version bigint NOT NULL, revision bigint NOT NULL, computed_at timestamptz NOT NULL,
            reason text NOT NULL, winner text, allocation jsonb NOT NULL, digest text NOT NULL, event text NOT NULL,
            PRIMARY KEY (experiment, version))
    """)
    _view("given_feedback", _GIVEN_FEEDBACK)
    _view("orphan_feedback", _ORPHANS)
    _view(
        "weights_history",
        "SELECT experiment, version, revision, computed_at, reason, winner, allocation, digest FROM weight_versions",
    )


def downgrade() -> None:
    """What the record had no room for before is lost."""
    # A view's columns can't be taken away while another leans on it.
    leaning = op.get_bind().exec_driver_sql("SELECT pg_get_viewdef('vote_correlation'::regclass)").scalar_one()
    for view in ("weights_history", "orphan_feedback", "vote_correlation", "given_feedback"):
        op.execute(f"DROP VIEW {view}")
    op.execute("DROP TABLE weight_versions")
    for table, columns in (("feedback", _OF_FEEDBACK), ("feedback_payloads", _OF_PAYLOADS)):
        for name in columns:
            op.execute(f"ALTER TABLE {table} DROP {name}")
    op.execute(f"CREATE VIEW given_feedback AS {_GIVEN_FEEDBACK_0002}")
    op.execute("GRANT SELECT ON given_feedback TO analyst")
    op.get_bind().exec_driver_sql(f"CREATE VIEW vote_correlation AS {leaning}")
    op.execute("GRANT SELECT ON vote_correlation TO analyst")


def _view(name: str, query: str) -> None:
    op.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
    op.execute(f"COMMENT ON VIEW {name} IS '{_COMMENTS[name]}'")
    op.execute(f"GRANT SELECT ON {name} TO analyst")
