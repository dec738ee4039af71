"""Calls of tools that are no part of a path: what was asked for, who said yes or no, and the ledger by which each is made once."""

from alembic import op

revision = "0020"
down_revision = "0019"

_TABLES = {
    "tool_calls": """
        step_index integer NOT NULL, requested_at timestamptz NOT NULL, tool text NOT NULL, needs_approval boolean NOT NULL,
        approval_until timestamptz, PRIMARY KEY (asked_at, request_id, step_index)""",
    "tool_call_payloads": """
        step_index integer NOT NULL, argument text NOT NULL, PRIMARY KEY (asked_at, request_id, step_index)""",
    "approvals": """
        step_index integer NOT NULL, event_id text NOT NULL, event_source text NOT NULL, given_at timestamptz NOT NULL,
        is_approved boolean NOT NULL, given_by text NOT NULL, why text NOT NULL,
        PRIMARY KEY (asked_at, request_id, step_index, event_source, event_id)""",
}
_LEDGER = """
    CREATE TABLE tool_effects (key text PRIMARY KEY, request_id uuid NOT NULL, asked_at timestamptz NOT NULL,
        step_index integer NOT NULL, tool text NOT NULL, begun_at timestamptz NOT NULL, ended_at timestamptz, observed text,
        is_failed boolean NOT NULL DEFAULT false)
"""
_VIEW = """
    CREATE VIEW tool_requests AS
    SELECT c.request_id, c.asked_at, c.step_index, c.tool, t.argument, c.requested_at, c.needs_approval, c.approval_until,
           a.is_approved, a.given_by, a.why, a.given_at, v.stop_reason AS ended_by, v.answer AS observed, v.decided_at,
           c.needs_approval AND a.event_id IS NULL AND v.request_id IS NULL AND e.request_id IS NULL
               AND c.approval_until > now() AS is_waiting
    FROM tool_calls c
    LEFT JOIN tool_call_payloads t USING (asked_at, request_id, step_index)
    LEFT JOIN LATERAL (
        SELECT g.event_id, g.is_approved, g.given_by, g.why, g.given_at FROM approvals g
        WHERE (g.asked_at, g.request_id, g.step_index) = (c.asked_at, c.request_id, c.step_index)
        ORDER BY g.given_at, g.is_approved LIMIT 1) a ON true
    LEFT JOIN verdicts v USING (asked_at, request_id, step_index)
    LEFT JOIN answers e USING (asked_at, request_id)
"""
_COMMENT = "One row a call of a tool with an effect: does it wait for a yes, who gave it, what was observed?"


def upgrade() -> None:
    """Makes them, empty."""
    for name, columns in _TABLES.items():
        op.execute(
            f"CREATE TABLE {name} (request_id uuid NOT NULL, asked_at timestamptz NOT NULL, {columns}) "
            "PARTITION BY RANGE (asked_at)"
        )
        op.execute(f"CREATE INDEX {name}_request ON {name} (request_id)")
    op.execute("CREATE INDEX tool_calls_approval ON tool_calls (approval_until) WHERE needs_approval")
    op.execute(_LEDGER)
    op.execute("CREATE INDEX tool_effects_request ON tool_effects (request_id)")
    op.execute(_VIEW)
    op.execute(f"COMMENT ON VIEW tool_requests IS '{_COMMENT}'")
    op.execute("GRANT SELECT ON tool_requests TO analyst")


def downgrade() -> None:
    """What was called, and by whose leave, is forgotten."""
    op.execute("DROP VIEW tool_requests")
    for name in ("tool_effects", *reversed(_TABLES)):
        op.execute(f"DROP TABLE {name}")
