"""How often a path was handed on by its decoder before it came to its end."""

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """No path was before."""
    op.execute("ALTER TABLE paths ADD num_handed_on integer NOT NULL DEFAULT 0")


def downgrade() -> None:
    """Takes the column away."""
    op.execute("ALTER TABLE paths DROP num_handed_on")
