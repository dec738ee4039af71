"""Texts of paths that are too long for an event, in chunks by digest; `path_votes` puts them together."""

from alembic import op

revision = "0006"
down_revision = "0005"

_KEY = "asked_at, request_id, digest, chunk_index"
# All of a long text once every chunk is there; until then, and for others, what the event itself holds.
_WHOLE = """
    LEFT JOIN LATERAL (
        SELECT string_agg(c.text, '' ORDER BY c.chunk_index) AS text FROM text_chunks c
        WHERE c.asked_at = t.asked_at AND c.request_id = t.request_id AND c.digest = t.digest
        HAVING count(*) = t.num_chunks) w ON t.digest IS NOT NULL
"""
_VOTES = """
    SELECT p.request_id, p.asked_at, p.step_index, p.sample_index, p.failure, b.answer AS vote, b.weight,
           b.sample_index IS NOT NULL AS is_counted, b.answer = v.answer AS is_for_winner, p.finish_reason,
           p.tokens_in, p.tokens_out, p.mean_logprob, p.min_logprob, p.queued_ms, p.first_token_ms, p.total_ms,
           p.model, p.engine, p.policy, p.arm, {text} AS text, t.reasoning
    FROM paths p
    LEFT JOIN path_payloads t USING (asked_at, request_id, step_index, sample_index)
    {whole}
    LEFT JOIN ballots b USING (asked_at, request_id, step_index, sample_index)
    LEFT JOIN verdicts v USING (asked_at, request_id, step_index)
"""


def upgrade() -> None:
    """Paths of before had what their event had room for."""
    op.execute(f"""
        CREATE TABLE text_chunks (request_id uuid NOT NULL, asked_at timestamptz NOT NULL, digest text NOT NULL,
            chunk_index smallint NOT NULL, text text NOT NULL, PRIMARY KEY ({_KEY})) PARTITION BY RANGE (asked_at)
    """)
    op.execute("CREATE INDEX text_chunks_request ON text_chunks (request_id)")
    op.execute("ALTER TABLE path_payloads ADD digest text, ADD num_chunks smallint")
    op.execute("CREATE OR REPLACE VIEW path_votes AS" + _VOTES.format(text="coalesce(w.text, t.text)", whole=_WHOLE))


def downgrade() -> None:
    """Of long texts their ends are left."""
    op.execute("CREATE OR REPLACE VIEW path_votes AS" + _VOTES.format(text="t.text", whole=""))
    op.execute("ALTER TABLE path_payloads DROP digest, DROP num_chunks")
    op.execute("DROP TABLE text_chunks")
