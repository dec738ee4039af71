"""The gateway's tables: who asked what through it, tenants, their keys, and who changed those. Analysts see none of them."""

from alembic import op

revision = "0010"
down_revision = "0009"

_TABLES = {
    "gateway_requests": """(
        request_id uuid PRIMARY KEY, asked_at timestamptz NOT NULL, tenant text NOT NULL, key_id text,
        idempotency_key text, digest bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        deadline_at timestamptz NOT NULL, UNIQUE (tenant, idempotency_key))""",
    "tenants": """(
        tenant text PRIMARY KEY CHECK (tenant ~ '^[a-z0-9][a-z0-9._-]{0,63}$'), created_at timestamptz NOT NULL DEFAULT now(),
        rate_per_minute integer CHECK (rate_per_minute > 0), max_open integer CHECK (max_open > 0),
        is_redacted boolean NOT NULL DEFAULT true)""",
    "api_keys": """(
        key_id text PRIMARY KEY, tenant text NOT NULL REFERENCES tenants, digest bytea NOT NULL, scopes text[] NOT NULL,
        label text NOT NULL DEFAULT '', created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz,
        revoked_at timestamptz)""",
    "key_changes": """(
        change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, changed_at timestamptz NOT NULL DEFAULT now(),
        actor text NOT NULL, action text NOT NULL, tenant text NOT NULL, key_id text, detail jsonb NOT NULL)""",
}
_INDEXES = {
    "gateway_requests_created": "gateway_requests (created_at)",
    "gateway_requests_rate": "gateway_requests (tenant, created_at)",
    "gateway_requests_open": "gateway_requests (tenant, deadline_at)",
}


def upgrade() -> None:
    """Makes them, empty."""
    for name, columns in _TABLES.items():
        op.execute(f"CREATE TABLE {name} {columns}")
    for name, on in _INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON {on}")


def downgrade() -> None:
    """Drops them, with all keys."""
    for name in reversed(_TABLES):
        op.execute(f"DROP TABLE {name}")
