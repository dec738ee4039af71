"""Tenants whose content is not kept: the record has the figures of their requests, and none of their words."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Everything that there is stays as it is kept. The index has the exceptions only, which the recorder asks for."""
    op.execute("ALTER TABLE tenants ADD content text NOT NULL DEFAULT 'kept' CHECK (content IN ('kept', 'off'))")
    op.execute(
        "ALTER TABLE gateway_requests ADD content text NOT NULL DEFAULT 'kept' CHECK (content IN ('kept', 'off', 'erased'))"
    )
    op.execute("CREATE INDEX gateway_requests_bare ON gateway_requests (request_id) WHERE content <> 'kept'")


def downgrade() -> None:
    """Forgets whose content was not to be kept; what was not kept does not come back."""
    op.execute("DROP INDEX gateway_requests_bare")
    op.execute("ALTER TABLE gateway_requests DROP content")
    op.execute("ALTER TABLE tenants DROP content")
