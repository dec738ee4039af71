"""Cancellations that the log could not take: whoever is back first publishes them, the gateway that heard them or another."""

from alembic import op

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    """Makes the table, empty."""
    op.execute("CREATE TABLE gateway_cancellations (request_id uuid PRIMARY KEY, until timestamptz NOT NULL)")


def downgrade() -> None:
    """Those that wait are forgotten: their requests go on to their end."""
    op.execute("DROP TABLE gateway_cancellations")
