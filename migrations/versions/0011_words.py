"""Questions are found by their words, and failures without looking through what did not fail."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """The expression is that of conclave.store.listing; a longer question is found by its first 4,096 characters."""
    op.execute(
        "CREATE INDEX request_payloads_words ON request_payloads USING gin (to_tsvector('simple', left(question, 4096)))"
    )
    op.execute("CREATE INDEX answers_failed ON answers (asked_at, request_id) WHERE failure IS NOT NULL")


def downgrade() -> None:
    """Lists by words and of failures are slow again."""
    op.execute("DROP INDEX answers_failed")
    op.execute("DROP INDEX request_payloads_words")
