"""Structured answers: what the vote on each of their fields came to."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Verdicts of before had no fields."""
    op.execute("ALTER TABLE verdict_payloads ADD fields jsonb")


def downgrade() -> None:
    """What the record had no room for before is lost."""
    op.execute("ALTER TABLE verdict_payloads DROP fields")
