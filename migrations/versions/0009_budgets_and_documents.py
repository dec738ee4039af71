"""Why a request ended when it did, what spoke for its plan, and an operator's documents in full text."""

from alembic import op

revision = "0009"
down_revision = "0008"

_SUMMARY = """
    SELECT r.request_id, r.asked_at, p.question, p.tags, coalesce(a.strategy, pl.strategy) AS strategy,
           coalesce(a.policy, pl.policy) AS policy, pl.policy_digest, coalesce(a.arm, pl.arm) AS arm, a.outcome, a.failure,
           a.answer, a.confidence, a.margin, a.answered_by, a.num_paths, a.tokens_in, a.tokens_out, a.elapsed_ms, a.answered_at
           {more}
    FROM requests r
    LEFT JOIN request_payloads p USING (asked_at, request_id)
    LEFT JOIN plans pl USING (asked_at, request_id)
    LEFT JOIN answers a USING (asked_at, request_id)
    {joined}
"""
_COMMENT = "One row a request: what was asked, how it was reasoned about, and what it came to."


def upgrade() -> None:
    """Requests of before ended as their strategy decided, or by a deadline that their failure names."""
    op.execute("ALTER TABLE answers ADD ended_by text NOT NULL DEFAULT 'decided'")
    op.execute("UPDATE answers SET ended_by = 'deadline' WHERE failure = 'deadline'")
    _summary(more=", a.ended_by, pr.reasons", joined="LEFT JOIN plan_payloads pr USING (asked_at, request_id)")
    op.execute("""
        CREATE TABLE documents (
            name text NOT NULL, part integer NOT NULL, language regconfig NOT NULL, text text NOT NULL,
            words tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector(language, text)) STORED, PRIMARY KEY (name, part))
    """)
    op.execute("CREATE INDEX documents_words ON documents USING gin (words)")


def downgrade() -> None:
    """What the record had no room for before is lost."""
    op.execute("DROP TABLE documents")
    _summary(more="", joined="")
    op.execute("ALTER TABLE answers DROP ended_by")


def _summary(*, more: str, joined: str) -> None:
    op.execute("DROP VIEW request_summary")
    op.execute("CREATE VIEW request_summary AS" + _SUMMARY.format(more=more, joined=joined))
    op.execute(f"COMMENT ON VIEW request_summary IS '{_COMMENT}'")
    op.execute("GRANT SELECT ON request_summary TO analyst")
