"""Who gave a dead letter another try from the pages, how full an engine's cache was for a path, and a tenant's latest requests."""

from alembic import op

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    """Makes the table, empty; the column, unknown for paths so far; and the index by which a tenant's requests are listed."""
    op.execute("""
        CREATE TABLE dead_letter_replays (
            replay_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, replayed_at timestamptz NOT NULL DEFAULT now(),
            actor text NOT NULL, action text NOT NULL, letter_id text NOT NULL, reason text NOT NULL)
    """)
    op.execute("CREATE INDEX dead_letter_replays_letter ON dead_letter_replays (letter_id)")
    op.execute("ALTER TABLE paths ADD tokens_cached integer")
    op.execute("CREATE INDEX gateway_requests_latest ON gateway_requests (tenant, asked_at DESC, request_id DESC)")


def downgrade() -> None:
    """Nobody knows who it was any more."""
    op.execute("DROP INDEX gateway_requests_latest")
    op.execute("ALTER TABLE paths DROP tokens_cached")
    op.execute("DROP TABLE dead_letter_replays")
