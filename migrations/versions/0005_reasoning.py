"""What a path's model thought lies beside its text; token counts that a model server does not give are unknown."""

from alembic import op

revision = "0005"
down_revision = "0004"

_COUNTS = ("tokens_in", "tokens_out")
_PATH_VOTES = """
    SELECT p.request_id, p.asked_at, p.step_index, p.sample_index, p.failure, b.answer AS vote, b.weight,
           b.sample_index IS NOT NULL AS is_counted, b.answer = v.answer AS is_for_winner, p.finish_reason,
           p.tokens_in, p.tokens_out, p.mean_logprob, p.min_logprob, p.queued_ms, p.first_token_ms, p.total_ms,
           p.model, p.engine, p.policy, p.arm, t.text{more}
    FROM paths p
    LEFT JOIN path_payloads t USING (asked_at, request_id, step_index, sample_index)
    LEFT JOIN ballots b USING (asked_at, request_id, step_index, sample_index)
    LEFT JOIN verdicts v USING (asked_at, request_id, step_index)
"""
_COMMENT = "One row a path with its vote: did it count, and did it vote for the step''s answer?"


def upgrade() -> None:
    """Adds the column, and lets counts be unknown."""
    op.execute("ALTER TABLE path_payloads ADD COLUMN reasoning text")
    for name in _COUNTS:
        op.execute(f"ALTER TABLE paths ALTER COLUMN {name} DROP NOT NULL")
    _path_votes(", t.reasoning")


def downgrade() -> None:
    """Takes the column out; a count that is unknown becomes 0, as it was counted before."""
    _path_votes("")
    for name in _COUNTS:
        op.execute(f"UPDATE paths SET {name} = 0 WHERE {name} IS NULL")
        op.execute(f"ALTER TABLE paths ALTER COLUMN {name} SET NOT NULL")
    op.execute("ALTER TABLE path_payloads DROP COLUMN reasoning")


def _path_votes(more: str) -> None:
    op.execute("DROP VIEW path_votes")
    op.execute(f"CREATE VIEW path_votes AS {_PATH_VOTES.format(more=more)}")
    op.execute(f"COMMENT ON VIEW path_votes IS '{_COMMENT}'")
    op.execute("GRANT SELECT ON path_votes TO analyst")
