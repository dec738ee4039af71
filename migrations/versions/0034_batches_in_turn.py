"""Lines of batches say whether they wait, run or have ended; batches count them, so that nothing has to be counted to go on.

Files and batches know the idempotency key that they came with, and how many bytes they are; files what they are for.
"""

from alembic import op

revision = "0034"
down_revision = "0033"

_COLUMNS = {
    "gateway_batch_lines": ("state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'open', 'ended'))",),
    "gateway_batches": (
        "num_lines integer NOT NULL DEFAULT 0",
        "num_answered integer NOT NULL DEFAULT 0",
        "num_failed integer NOT NULL DEFAULT 0",
        "num_unasked integer NOT NULL DEFAULT 0",
        "num_bytes bigint NOT NULL DEFAULT 0",
        "idempotency_key text",
        "digest bytea",
    ),
    "gateway_files": (
        "purpose text NOT NULL DEFAULT 'batch'",
        "num_bytes bigint NOT NULL DEFAULT 0",
        "idempotency_key text",
        "digest bytea",
    ),
}
# What was asked is open until a gateway next looks: that finds and counts what has come of it.
_FILLED = (
    "UPDATE gateway_batch_lines SET state = CASE WHEN error IS NULL THEN 'open' ELSE 'ended' END "
    "WHERE error IS NOT NULL OR request_id IS NOT NULL",
    """
    UPDATE gateway_batches b SET num_lines = l.num_lines, num_failed = l.num_wrong, num_bytes = l.num_bytes FROM (
        SELECT batch_id, count(*) AS num_lines, count(error) AS num_wrong, coalesce(sum(pg_column_size(body)), 0) AS num_bytes
        FROM gateway_batch_lines GROUP BY batch_id) l
    WHERE l.batch_id = b.batch_id
    """,
    "UPDATE gateway_files SET num_bytes = octet_length(content)",
)
_INDEXES = {
    "gateway_batch_lines_waiting": "INDEX {} ON gateway_batch_lines (batch_id, line) WHERE state = 'waiting'",
    "gateway_batch_lines_open": "INDEX {} ON gateway_batch_lines (batch_id) WHERE state = 'open'",
    "gateway_batches_unfinished": (
        "INDEX {} ON gateway_batches (tenant, deadline_at, batch_id) "
        "WHERE num_answered + num_failed + num_unasked < num_lines"
    ),
    "gateway_batches_key": "UNIQUE INDEX {} ON gateway_batches (tenant, idempotency_key)",
    "gateway_files_key": "UNIQUE INDEX {} ON gateway_files (tenant, idempotency_key)",
    "gateway_files_tenant": "INDEX {} ON gateway_files (tenant, created_at)",
}


def upgrade() -> None:
    """Adds the columns, fills them from what is there, and makes the indexes that claims go by."""
    op.execute("DROP INDEX gateway_batch_lines_waiting")
    for table, columns in _COLUMNS.items():
        op.execute(f"ALTER TABLE {table} {', '.join(f'ADD {column}' for column in columns)}")
    for statement in _FILLED:
        op.execute(statement)
    for name, index in _INDEXES.items():
        op.execute(f"CREATE {index.format(name)}")


def downgrade() -> None:
    """Without them again. A line that was never asked of a batch that is over waits again, and is not asked."""
    for name in _INDEXES:
        op.execute(f"DROP INDEX {name}")
    for table, columns in _COLUMNS.items():
        op.execute(f"ALTER TABLE {table} {', '.join(f'DROP {column.split()[0]}' for column in columns)}")
    op.execute(
        "CREATE INDEX gateway_batch_lines_waiting ON gateway_batch_lines (batch_id, line) "
        "WHERE request_id IS NULL AND error IS NULL"
    )
