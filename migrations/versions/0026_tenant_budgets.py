"""A tenant's budget of tokens: what its requests cost, added up by the hour in which they ended."""

from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Nobody has a budget yet. What ended within the last day counts as soon as one is set."""
    op.execute("ALTER TABLE tenants ADD tokens_per_day bigint CHECK (tokens_per_day > 0)")
    op.execute("ALTER TABLE tenants ADD waits_until timestamptz")
    op.execute("ALTER TABLE gateway_requests ADD tokens bigint")
    op.execute("CREATE INDEX gateway_requests_unsettled ON gateway_requests (tenant, created_at) WHERE tokens IS NULL")
    op.execute("""
        CREATE TABLE tenant_hours (
            tenant text NOT NULL, hour timestamptz NOT NULL, tokens bigint NOT NULL, PRIMARY KEY (tenant, hour))
    """)


def downgrade() -> None:
    """Takes budgets away."""
    op.execute("DROP TABLE tenant_hours")
    op.execute("DROP INDEX gateway_requests_unsettled")
    op.execute("ALTER TABLE gateway_requests DROP tokens")
    op.execute("ALTER TABLE tenants DROP waits_until")
    op.execute("ALTER TABLE tenants DROP tokens_per_day")
