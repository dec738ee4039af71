"""Tenants may read their own rows in SQL, held to them by row-level security; and analysts are bounded further.

- A tenant's role (`conclave keys role`) is a member of the group `tenant`. The policies of a table hold for that group only:
  everyone else who has rights on a table sees what they saw. Which requests are a tenant's, the gateway's ledger says.
- Nobody but Conclave's own role takes advisory locks, by which services keep out of each other's way, or calls pg_notify; and no
  transaction of anybody else goes on for more than five minutes (servers from 17 on).
"""

from alembic import op

revision = "0022"
down_revision = "0021"

_OF_A_REQUEST = (
    "requests", "request_payloads", "plans", "plan_payloads", "fingerprints", "steps", "step_payloads", "paths", "path_payloads",
    "text_chunks", "ballots", "verdicts", "verdict_payloads", "answers", "answer_payloads", "feedback", "feedback_payloads",
    "tool_calls", "tool_call_payloads", "approvals",
)  # fmt: skip
_OWN_REQUEST = "request_id IN (SELECT g.request_id FROM gateway_requests g)"
# Who sees which rows of what: a condition that is itself held to the policies of the tables that it reads.
_OWN = {
    "gateway_requests": "tenant = ANY ((SELECT own_tenants())::text[])",
    **dict.fromkeys(_OF_A_REQUEST, _OWN_REQUEST),
}
_COLUMNS = {"gateway_requests": "(request_id, asked_at, tenant, created_at, deadline_at)"}
_ROLE = """
DO $$ BEGIN
    CREATE ROLE tenant NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""
# A tenant's role is called after it. Who asks may be that role, or a person's own that is a member of it.
_OWN_TENANTS = """
CREATE FUNCTION own_tenants() RETURNS text[] LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, public AS $$
    SELECT coalesce(array_agg(substr(r.rolname, 8)), '{}') FROM pg_roles r
    WHERE r.rolname LIKE 'tenant\\_%' AND pg_has_role(r.oid, 'USAGE')
$$
"""
_TRY = """
DO $$ BEGIN
    {statement};
EXCEPTION
    WHEN insufficient_privilege OR undefined_object OR undefined_function THEN
        RAISE WARNING 'not done: %', SQLERRM;
END $$
"""
_LOCKS = tuple(
    f"pg_{kind}advisory{scope}_{verb}({arguments})"
    for kind, verb in (("", "lock"), ("", "lock_shared"), ("try_", "lock"), ("try_", "lock_shared"))
    for scope in ("", "_xact")
    for arguments in ("bigint", "integer, integer")
)
_OURS = (*_LOCKS, "pg_notify(text, text)")
_TRANSACTION_S = 300


def upgrade() -> None:
    """Makes the group, the policies and the bounds. The views of the schema `tenant` are made after every migration."""
    op.execute(_ROLE)
    op.execute(_OWN_TENANTS)
    op.execute("GRANT USAGE ON SCHEMA public TO tenant")
    for table, condition in _OWN.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY everyone ON {table} USING (true)")
        op.execute(f"CREATE POLICY own ON {table} AS RESTRICTIVE TO tenant USING ({condition})")
        op.execute(f"GRANT SELECT {_COLUMNS.get(table, '')} ON {table} TO tenant")
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        op.execute(_TRY.format(statement=f"ALTER ROLE tenant SET {name} = '60s'"))
    op.execute(_TRY.format(statement="ALTER ROLE tenant SET default_transaction_read_only = 'on'"))
    _database(f"ALTER DATABASE %I SET transaction_timeout = ''{_TRANSACTION_S}s''")
    for role in ("analyst", "tenant"):
        op.execute(_TRY.format(statement=f"ALTER ROLE {role} SET transaction_timeout = '{_TRANSACTION_S}s'"))
    for function in _OURS:
        op.execute(_TRY.format(statement=f"GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO CURRENT_USER"))
        op.execute(_TRY.format(statement=f"REVOKE EXECUTE ON FUNCTION pg_catalog.{function} FROM PUBLIC"))


def downgrade() -> None:
    """Shows tenants nothing any more; the group stays, as other databases of the server may use it."""
    for function in _OURS:
        op.execute(_TRY.format(statement=f"GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO PUBLIC"))
    _database("ALTER DATABASE %I RESET transaction_timeout")
    op.execute(_TRY.format(statement="ALTER ROLE analyst RESET transaction_timeout"))
    for table in reversed(_OWN):
        op.execute(f"REVOKE ALL ON {table} FROM tenant")
        op.execute(f"DROP POLICY own ON {table}")
        op.execute(f"DROP POLICY everyone ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute("REVOKE USAGE ON SCHEMA public FROM tenant")
    op.execute("DROP FUNCTION own_tenants()")


def _database(statement: str) -> None:
    """Executes a statement with %I for the name of this database, if whoever migrates may."""
    op.execute(_TRY.format(statement=f"EXECUTE format('{statement}', current_database())"))
