"""Fingerprints of questions, by which their answers are found again; and whose answer a request was given."""

from alembic import op

revision = "0013"
down_revision = "0012"

_VIEW = """
    CREATE VIEW recalled_requests AS
    SELECT p.request_id, p.asked_at, p.recalled_from, q.question, s.question AS first_question, a.answer,
           t.answered_at AS thought_at, p.planned_at - t.answered_at AS age, p.policy, f.tenant
    FROM plans p
    LEFT JOIN request_payloads q USING (asked_at, request_id)
    LEFT JOIN answers a USING (asked_at, request_id)
    LEFT JOIN answers t ON t.request_id = p.recalled_from
    LEFT JOIN request_payloads s ON s.request_id = p.recalled_from
    LEFT JOIN fingerprints f ON f.request_id = p.recalled_from
    WHERE p.recalled_from IS NOT NULL
"""
_COMMENT = "One row a request that was given a remembered answer: whose, how old, and what had been asked."


def upgrade() -> None:
    """What was answered before has no fingerprint, and is not found again."""
    op.execute("ALTER TABLE plans ADD recalled_from uuid")
    op.execute("CREATE INDEX plans_recalled ON plans (recalled_from) WHERE recalled_from IS NOT NULL")
    op.execute("CREATE INDEX feedback_given ON feedback (given_at)")
    op.execute("""
        CREATE TABLE fingerprints (request_id uuid NOT NULL, asked_at timestamptz NOT NULL, key text NOT NULL, gist text NOT NULL,
            tenant text NOT NULL, PRIMARY KEY (asked_at, request_id)) PARTITION BY RANGE (asked_at)
    """)
    op.execute("CREATE INDEX fingerprints_request ON fingerprints (request_id)")
    op.execute("CREATE INDEX fingerprints_key ON fingerprints (key)")
    op.execute("CREATE INDEX fingerprints_gist ON fingerprints (gist) WHERE gist <> ''")
    op.execute(_VIEW)
    op.execute(f"COMMENT ON VIEW recalled_requests IS '{_COMMENT}'")
    op.execute("GRANT SELECT ON recalled_requests TO analyst")


def downgrade() -> None:
    """Nothing is remembered any more."""
    op.execute("DROP VIEW recalled_requests")
    op.execute("DROP TABLE fingerprints")
    op.execute("DROP INDEX feedback_given")
    op.execute("DROP INDEX plans_recalled")
    op.execute("ALTER TABLE plans DROP recalled_from")
