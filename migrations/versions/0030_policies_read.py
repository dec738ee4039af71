"""Which policies running decomposers have read, and so when each of them changed, from which digest to which.

A read is compared with the one before it, whoever made that: several decomposers that follow the same files tell one change, and
one that still goes by others tells two.
"""

from alembic import op

revision = "0030"
down_revision = "0029"

_CHANGES = """
    WITH in_turn AS (
        SELECT event_id, instance, read_at, set_digest, lag(set_digest) OVER turn AS digest_before,
               lag(event_id) OVER turn AS event_before
        FROM policy_reads WINDOW turn AS (ORDER BY read_at, event_id)),
    said AS (
        SELECT t.event_id, t.instance, t.read_at, p.policy, p.digest, p.file, p.modified_ms, p.is_after
        FROM in_turn t CROSS JOIN LATERAL (
            SELECT x.*, true AS is_after FROM policy_reads r
            CROSS JOIN LATERAL jsonb_to_recordset(r.policies) AS x (policy text, digest text, file text, modified_ms bigint)
            WHERE r.event_id = t.event_id
            UNION ALL
            SELECT x.*, false FROM policy_reads r
            CROSS JOIN LATERAL jsonb_to_recordset(r.policies) AS x (policy text, digest text, file text, modified_ms bigint)
            WHERE r.event_id = t.event_before) p
        WHERE t.set_digest <> t.digest_before),
    beside AS (
        SELECT event_id, instance, read_at, policy, max(digest) FILTER (WHERE NOT is_after) AS digest_before,
               max(digest) FILTER (WHERE is_after) AS digest_after, max(file) FILTER (WHERE is_after) AS file_after,
               max(file) FILTER (WHERE NOT is_after) AS file_before, max(modified_ms) FILTER (WHERE is_after) AS modified_ms
        FROM said GROUP BY 1, 2, 3, 4)
    SELECT read_at, instance, policy,
           CASE WHEN digest_before IS NULL THEN 'added' WHEN digest_after IS NULL THEN 'removed' ELSE 'changed' END AS change,
           digest_before, digest_after, coalesce(file_after, file_before) AS file,
           to_timestamp(nullif(modified_ms, 0) / 1000.0) AS modified_at
    FROM beside WHERE digest_before IS DISTINCT FROM digest_after
"""
_COMMENT = (
    "One row a policy that was changed, added or removed, as a running decomposer read it: from which digest to which."
)


def upgrade() -> None:
    """What was read before is not known."""
    op.execute("""
        CREATE TABLE policy_reads (
            event_id text PRIMARY KEY, instance text NOT NULL, read_at timestamptz NOT NULL, recorded_at timestamptz NOT NULL,
            set_digest text NOT NULL, policies jsonb NOT NULL)
    """)
    op.execute("CREATE INDEX policy_reads_at ON policy_reads (read_at, event_id)")
    op.execute(f"CREATE VIEW policy_changes AS {_CHANGES}")
    op.execute(f"COMMENT ON VIEW policy_changes IS '{_COMMENT}'")
    op.execute("GRANT SELECT ON policy_changes TO analyst")


def downgrade() -> None:
    """They are read from files again, and nobody knows when they changed."""
    op.execute("DROP VIEW policy_changes")
    op.execute("DROP TABLE policy_reads")
