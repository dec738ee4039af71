"""Who is signed in to the gateway's pages, so that browsers hold no key: of what they hold only the hash is kept."""

from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    """Makes the table, empty: who was signed in by a key in a cookie signs in anew."""
    op.execute("""
        CREATE TABLE sign_ins (
            digest bytea PRIMARY KEY, key_id text NOT NULL REFERENCES api_keys, begun_at timestamptz NOT NULL DEFAULT now(),
            ends_at timestamptz NOT NULL)
    """)
    op.execute("CREATE INDEX sign_ins_end ON sign_ins (ends_at)")


def downgrade() -> None:
    """Drops it, with all who are signed in."""
    op.execute("DROP TABLE sign_ins")
