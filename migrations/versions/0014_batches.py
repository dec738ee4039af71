"""Files and batches of requests that come through a gateway."""

from alembic import op

revision = "0014"
down_revision = "0013"

_TABLES = {
    "gateway_files": """(
        file_id text PRIMARY KEY, tenant text NOT NULL, filename text NOT NULL, content text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now())""",
    "gateway_batches": """(
        batch_id text PRIMARY KEY, tenant text NOT NULL, file_id text NOT NULL, window_s double precision NOT NULL,
        is_redacted boolean NOT NULL, metadata jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        deadline_at timestamptz NOT NULL, cancelled_at timestamptz)""",
    "gateway_batch_lines": """(
        batch_id text NOT NULL REFERENCES gateway_batches ON DELETE CASCADE, line integer NOT NULL, custom_id text NOT NULL,
        body jsonb, error text, claimed_at timestamptz, request_id uuid, asked_at timestamptz, PRIMARY KEY (batch_id, line))""",
}
_INDEXES = {
    "gateway_batches_tenant": "gateway_batches (tenant, created_at)",
    "gateway_batches_deadline": "gateway_batches (deadline_at)",
    "gateway_batch_lines_waiting": "gateway_batch_lines (batch_id, line) WHERE request_id IS NULL AND error IS NULL",
}


def upgrade() -> None:
    """Makes them, empty."""
    for name, columns in _TABLES.items():
        op.execute(f"CREATE TABLE {name} {columns}")
    for name, on in _INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON {on}")


def downgrade() -> None:
    """Drops them."""
    for name in reversed(_TABLES):
        op.execute(f"DROP TABLE {name}")
