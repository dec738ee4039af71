"""Paths say whether their model declined what it was asked."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Paths of before declined nothing: they had no way to."""
    op.execute("ALTER TABLE paths ADD is_declined boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    """Their texts still say so."""
    op.execute("ALTER TABLE paths DROP is_declined")
