"""What votes are weighed by, and what a vote of several is worth.

- Paths have the log probabilities of the answer's tokens, of the group that is least sure and of the last one, and say how full
  their engine was; requests say which quality they asked for.
- `vote_correlation` has, by policy, how much the errors of paths on one question go together.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

_FIGURES = ("answer_logprob", "lowest_group_logprob", "tail_logprob", "load")
_VOTES = """
    SELECT p.request_id, p.asked_at, p.step_index, p.sample_index, p.failure, b.answer AS vote, b.weight,
           b.sample_index IS NOT NULL AS is_counted, b.answer = v.answer AS is_for_winner, p.finish_reason,
           p.tokens_in, p.tokens_out, p.mean_logprob, p.min_logprob, p.queued_ms, p.first_token_ms, p.total_ms,
           p.model, p.engine, p.policy, p.arm, coalesce(w.text, t.text) AS text, t.reasoning{more}
    FROM paths p
    LEFT JOIN path_payloads t USING (asked_at, request_id, step_index, sample_index)
    LEFT JOIN LATERAL (
        SELECT string_agg(c.text, '' ORDER BY c.chunk_index) AS text FROM text_chunks c
        WHERE c.asked_at = t.asked_at AND c.request_id = t.request_id AND c.digest = t.digest
        HAVING count(*) = t.num_chunks) w ON t.digest IS NOT NULL
    LEFT JOIN ballots b USING (asked_at, request_id, step_index, sample_index)
    LEFT JOIN verdicts v USING (asked_at, request_id, step_index)
"""
_VOTES_COMMENT = "One row a path, with its vote: was it counted, is it for the winner?"

# The first three samples of a vote are launched whatever they say. Later ones come where those before them disagree, that is, on
# hard questions; to count them would make errors look more alike than they are.
# A cluster of answers is right if one of them, as a path wrote it, is the right answer.
_CORRELATION = """
    WITH known AS (
        SELECT asked_at, request_id, max(right_answer) AS right_answer FROM given_feedback
        WHERE is_latest AND right_answer IS NOT NULL AND asked_at > now() - interval '30 days'
        GROUP BY asked_at, request_id HAVING count(DISTINCT lower(btrim(right_answer))) = 1
    ), cast_votes AS (
        SELECT b.asked_at, b.request_id, v.policy, b.sample_index,
               coalesce(bool_or(lower(btrim(p.answer)) = lower(btrim(k.right_answer)))
                   OVER (PARTITION BY b.asked_at, b.request_id, b.answer), false) AS is_right
        FROM known k
        JOIN answers a USING (asked_at, request_id)
        JOIN verdicts v ON (v.asked_at, v.request_id, v.step_index) = (a.asked_at, a.request_id, a.answered_by)
        JOIN ballots b ON (b.asked_at, b.request_id, b.step_index) = (v.asked_at, v.request_id, v.step_index)
        JOIN paths p ON (p.asked_at, p.request_id, p.step_index, p.sample_index)
            = (b.asked_at, b.request_id, b.step_index, b.sample_index)
        WHERE b.failure IS NULL
    ), questions AS (
        SELECT policy, count(*) FILTER (WHERE NOT is_right) AS wrong
        FROM cast_votes WHERE sample_index < 3 GROUP BY asked_at, request_id, policy HAVING count(*) = 3
    ), moments AS (
        SELECT policy, count(*) AS num_questions, avg(wrong / 3.0) AS error_rate, avg(wrong * (wrong - 1) / 6.0) AS both_wrong
        FROM questions GROUP BY policy
    )
    SELECT policy, num_questions, error_rate::double precision,
           (CASE WHEN error_rate * (1 - error_rate) > 0
                 THEN (both_wrong - error_rate ^ 2) / (error_rate * (1 - error_rate)) END)::double precision AS rho
    FROM moments
"""
_CORRELATION_COMMENT = (
    "One row a policy: the pairwise correlation rho of errors among paths on one question, over the first three of each vote "
    "of the last 30 days whose right answer feedback has told. n votes are worth n / (1 + (n - 1) rho) independent ones."
)


def upgrade() -> None:
    """Rows of before say nothing of it."""
    op.execute("ALTER TABLE requests ADD quality text")
    op.execute("ALTER TABLE paths " + ", ".join(f"ADD {name} double precision" for name in _FIGURES))
    op.execute("CREATE OR REPLACE VIEW path_votes AS" + _VOTES.format(more="".join(f", p.{each}" for each in _FIGURES)))
    op.execute(f"CREATE VIEW vote_correlation AS {_CORRELATION}")
    op.execute(f"COMMENT ON VIEW vote_correlation IS '{_CORRELATION_COMMENT}'")
    op.execute("GRANT SELECT ON vote_correlation TO analyst")


def downgrade() -> None:
    """What the record had no room for before is lost."""
    op.execute("DROP VIEW vote_correlation")
    op.execute("DROP VIEW path_votes")
    op.execute("CREATE VIEW path_votes AS" + _VOTES.format(more=""))
    op.execute(f"COMMENT ON VIEW path_votes IS '{_VOTES_COMMENT}'")
    op.execute("GRANT SELECT ON path_votes TO analyst")
    op.execute("ALTER TABLE paths " + ", ".join(f"DROP {name}" for name in _FIGURES))
    op.execute("ALTER TABLE requests DROP quality")
