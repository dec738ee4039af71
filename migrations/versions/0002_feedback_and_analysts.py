"""Feedback is one by source and id; the analyst's role is bounded; what failed has a view.

- `feedback` and `feedback_payloads` get `event_source`, part of their keys: an id is unique within its source only.
- `given_feedback` says which of several opinions of one `source` holds; `failed_requests` shows every failure and its reason,
  also of what could not be read as a request and so has no row in `requests`.
- Analysts get limits. A role's settings count for who logs in as that role and are neither inherited nor taken over by SET ROLE,
  so they stand at the database too: for everyone whose connection does not set its own, as Conclave's services do.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

_FEEDBACK_TABLES = ("feedback", "feedback_payloads")
_GIVEN_FEEDBACK = """
    SELECT f.request_id, f.asked_at, f.given_at, f.source, f.reward, t.right_answer, t.comment, a.answer, a.policy, a.arm,
           row_number() OVER (PARTITION BY f.asked_at, f.request_id, f.source
                              ORDER BY f.given_at DESC, f.event_source DESC, f.event_id DESC) = 1 AS is_latest,
           f.event_source, f.event_id
    FROM feedback f
    LEFT JOIN feedback_payloads t USING (asked_at, request_id, event_source, event_id)
    LEFT JOIN answers a USING (asked_at, request_id)
"""
_GIVEN_FEEDBACK_0001 = """
    SELECT f.request_id, f.asked_at, f.given_at, f.source, f.reward, t.right_answer, t.comment, a.answer, a.policy, a.arm
    FROM feedback f
    LEFT JOIN feedback_payloads t USING (asked_at, request_id, event_id)
    LEFT JOIN answers a USING (asked_at, request_id)
"""
_FAILED_REQUESTS = """
    SELECT a.request_id, a.asked_at, a.answered_at AS failed_at, a.failure, t.message, p.question, p.tags, a.num_paths,
           a.tokens_in, a.tokens_out, a.elapsed_ms
    FROM answers a
    LEFT JOIN answer_payloads t USING (asked_at, request_id)
    LEFT JOIN request_payloads p USING (asked_at, request_id)
    WHERE a.failure IS NOT NULL
"""
_COMMENTS = {
    "given_feedback": "One row a piece of feedback, next to the answer that it is about. is_latest: no later one of its source.",
    "failed_requests": "One row a request that ended without an answer, and why; its question where it could be read.",
}

# Guards against a query that was not meant so; an analyst may raise all but temp_file_limit for a session.
_LIMITS = {
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
    "temp_file_limit": "1GB",
}
_LIMITS_OF_THE_ROLE = {**_LIMITS, "lock_timeout": "5s", "default_transaction_read_only": "on"}
_CONNECTIONS = 10

# Whoever migrates may lack the right to one of these (temp_file_limit and the server's own functions are a superuser's):
# the others are still set.
_TRY = """
DO $$ BEGIN
    {statement};
EXCEPTION
    WHEN insufficient_privilege OR undefined_object OR undefined_function THEN
        RAISE WARNING 'not done: %', SQLERRM;
END $$
"""
_LARGE_OBJECTS = (
    "lo_creat(integer)",
    "lo_create(oid)",
    "lo_from_bytea(oid, bytea)",
    "lo_open(oid, integer)",
    "lo_unlink(oid)",
)


def upgrade() -> None:
    """Adds the source to what identifies feedback, and bounds analysts."""
    op.execute("DROP VIEW given_feedback")
    for table in _FEEDBACK_TABLES:
        op.execute(f"ALTER TABLE {table} ADD COLUMN event_source text NOT NULL DEFAULT ''")
        op.execute(f"ALTER TABLE {table} ALTER COLUMN event_source DROP DEFAULT")
        _key(table, "asked_at, request_id, event_source, event_id")
    _view("given_feedback", _GIVEN_FEEDBACK)
    _view("failed_requests", _FAILED_REQUESTS)
    for name, value in _LIMITS_OF_THE_ROLE.items():
        op.execute(_TRY.format(statement=f"ALTER ROLE analyst SET {name} = '{value}'"))
    op.execute(_TRY.format(statement=f"ALTER ROLE analyst CONNECTION LIMIT {_CONNECTIONS}"))
    for name, value in _LIMITS.items():
        _database(f"ALTER DATABASE %I SET {name} = ''{value}''")
    # Whoever writes the record makes temporary tables; nobody else needs any, or large objects.
    _database("GRANT TEMPORARY ON DATABASE %I TO CURRENT_USER")
    _database("REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC")
    for function in _LARGE_OBJECTS:
        op.execute(_TRY.format(statement=f"REVOKE EXECUTE ON FUNCTION pg_catalog.{function} FROM PUBLIC"))


def downgrade() -> None:
    """Identifies feedback by its id alone again: of equal ids of several sources one is kept."""
    for function in _LARGE_OBJECTS:
        op.execute(_TRY.format(statement=f"GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO PUBLIC"))
    _database("GRANT TEMPORARY ON DATABASE %I TO PUBLIC")
    for name in _LIMITS:
        _database(f"ALTER DATABASE %I RESET {name}")
    for name in _LIMITS_OF_THE_ROLE:
        op.execute(_TRY.format(statement=f"ALTER ROLE analyst RESET {name}"))
    op.execute(_TRY.format(statement="ALTER ROLE analyst CONNECTION LIMIT -1"))
    op.execute("DROP VIEW failed_requests")
    op.execute("DROP VIEW given_feedback")
    for table in _FEEDBACK_TABLES:
        op.execute(
            f"DELETE FROM {table} a USING {table} b WHERE a.asked_at = b.asked_at AND a.request_id = b.request_id"
            " AND a.event_id = b.event_id AND a.event_source > b.event_source"
        )
        _key(table, "asked_at, request_id, event_id")
        op.execute(f"ALTER TABLE {table} DROP COLUMN event_source")
    _view("given_feedback", _GIVEN_FEEDBACK_0001)


def _database(statement: str) -> None:
    """Executes a statement with %I for the name of this database, if whoever migrates may."""
    op.execute(_TRY.format(statement=f"EXECUTE format('{statement}', current_database())"))


def _key(table: str, columns: str) -> None:
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
    op.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({columns})")


def _view(name: str, query: str) -> None:
    op.execute(f"CREATE VIEW {name} AS {query}")
    op.execute(f"COMMENT ON VIEW {name} IS '{_COMMENTS[name].replace(chr(39), chr(39) * 2)}'")
    op.execute(f"GRANT SELECT ON {name} TO analyst")
