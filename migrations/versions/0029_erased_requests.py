"""Which requests were erased, whoever asked them: what comes late of them is blanked as it is recorded.

The gateway's ledger says it of requests that came through a gateway; others have no row there.
"""

from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """What was erased before is known by the ledger, where there is one."""
    op.execute(
        "CREATE TABLE erased_requests (request_id uuid PRIMARY KEY, erased_at timestamptz NOT NULL DEFAULT now())"
    )
    op.execute("""
        INSERT INTO erased_requests (request_id)
        SELECT request_id FROM gateway_requests WHERE content = 'erased' UNION
        SELECT shadow_id FROM gateway_requests WHERE content = 'erased' AND shadow_id IS NOT NULL
    """)


def downgrade() -> None:
    """The ledger knows of its own requests."""
    op.execute("DROP TABLE erased_requests")
