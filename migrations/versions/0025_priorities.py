"""Which class of priority a request was in, how long its paths waited for the engine, and how urgent a tenant's may be."""

from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """What was planned before was in the default class, and how long paths waited is not known of them."""
    op.execute("ALTER TABLE plans ADD priority text NOT NULL DEFAULT 'standard'")
    op.execute("ALTER TABLE paths ADD waited_ms double precision")
    op.execute("""
        ALTER TABLE tenants ADD most_urgent text NOT NULL DEFAULT 'interactive'
            CHECK (most_urgent IN ('interactive', 'standard', 'batch'))
    """)


def downgrade() -> None:
    """Takes the columns away."""
    op.execute("ALTER TABLE tenants DROP most_urgent")
    op.execute("ALTER TABLE paths DROP waited_ms")
    op.execute("ALTER TABLE plans DROP priority")
