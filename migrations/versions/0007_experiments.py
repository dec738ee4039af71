"""Experiments: what was done to each, and how each request came to its arm.

- `plans` say which experiment assigned the request, by which unit and draw; plans, answers and feedback say where in the log they
  lay, so that a version of the weights can name exactly what it has seen: everything below the recorder's offsets of that moment.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

_PLACED = ("plans", "answers", "feedback")


def upgrade() -> None:
    """Rows of before belong to no experiment, and lie nowhere in the log that is remembered."""
    op.execute("ALTER TABLE plans ADD experiment text, ADD revision bigint, ADD unit text, ADD draw bigint")
    for table in _PLACED:
        op.execute(f"ALTER TABLE {table} ADD log_partition integer, ADD log_offset bigint")
    op.execute("CREATE INDEX plans_experiment ON plans (experiment, revision) WHERE experiment IS NOT NULL")
    op.execute("""
        CREATE TABLE experiment_changes (
            experiment text NOT NULL, revision bigint NOT NULL, event_id text NOT NULL, recorded_at timestamptz NOT NULL,
            change text NOT NULL, arm text, changed_at timestamptz NOT NULL, changed_by text NOT NULL, why text NOT NULL,
            digest text NOT NULL, event jsonb NOT NULL, PRIMARY KEY (experiment, revision, event_id))
    """)
    _view(
        "experiment_history",
        "SELECT experiment, revision, change, arm, changed_at, changed_by, why, digest FROM experiment_changes",
        "One row a change of an experiment: what, when, by whom and why.",
    )


def downgrade() -> None:
    """What the record had no room for before is lost."""
    op.execute("DROP VIEW experiment_history")
    op.execute("DROP TABLE experiment_changes")
    op.execute("ALTER TABLE plans DROP experiment, DROP revision, DROP unit, DROP draw")
    for table in _PLACED:
        op.execute(f"ALTER TABLE {table} DROP log_partition, DROP log_offset")


def _view(name: str, query: str, comment: str) -> None:
    op.execute(f"CREATE VIEW {name} AS {query}")
    op.execute(f"COMMENT ON VIEW {name} IS '{comment.replace(chr(39), chr(39) * 2)}'")
    op.execute(f"GRANT SELECT ON {name} TO analyst")
