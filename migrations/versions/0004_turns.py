"""Paths of several turns: what was said before the last one, and to which form the last one answers."""

from alembic import op

revision = "0004"
down_revision = "0003"

_TURNS = """
    CREATE VIEW path_turns AS
    SELECT p.request_id, p.asked_at, p.step_index, p.sample_index, t.place - 1 AS turn_index, t.turn ->> 'form' AS form,
           t.turn ->> 'tool' AS tool, t.turn ->> 'text' AS text, t.turn ->> 'answer' AS answer,
           t.turn -> 'call' ->> 'tool' AS called, t.turn -> 'call' ->> 'argument' AS argument,
           (t.turn ->> 'tokens_in')::bigint AS tokens_in, (t.turn ->> 'tokens_out')::bigint AS tokens_out
    FROM path_payloads p CROSS JOIN LATERAL jsonb_array_elements(p.turns) WITH ORDINALITY AS t (turn, place)
    UNION ALL
    SELECT p.request_id, p.asked_at, p.step_index, p.sample_index, jsonb_array_length(p.turns), p.form,
           NULL, p.text, NULL, NULL, NULL, NULL, NULL
    FROM path_payloads p WHERE p.form IS NOT NULL
"""
_COMMENT = "One row a turn of a path of several: to which form or by which tool, what was said, what was found in it."


def upgrade() -> None:
    """Paths of before had one turn each."""
    op.execute("ALTER TABLE path_payloads ADD form text, ADD turns jsonb NOT NULL DEFAULT '[]'")
    op.execute(_TURNS)
    op.execute(f"COMMENT ON VIEW path_turns IS '{_COMMENT}'")
    op.execute("GRANT SELECT ON path_turns TO analyst")


def downgrade() -> None:
    """What was said before the last turns is lost."""
    op.execute("DROP VIEW path_turns")
    op.execute("ALTER TABLE path_payloads DROP form, DROP turns")
