"""A verdict knows how its votes fell, so that questions by arm need not count a million ballots.

- `verdicts` has how many votes there were, how many for the winner, and how often the lead changed; `verdict_payloads` has where.
- `flipped_votes` reads that.
- `arm_votes` adds it all up by policy and arm.
"""

from alembic import op

revision = "0018"
down_revision = "0017"

_COUNTS = ("num_votes", "num_for_winner", "num_flips")
_OF_BALLOTS = """
    WITH counted AS (
        SELECT request_id, asked_at, step_index, sample_index, answer,
               count(*) OVER (PARTITION BY asked_at, request_id, step_index, answer ORDER BY sample_index) AS votes
        FROM ballots WHERE answer IS NOT NULL AND failure IS NULL),
    peaks AS (
        SELECT c.*, max(votes) OVER (PARTITION BY asked_at, request_id, step_index ORDER BY sample_index
                                     ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS peak FROM counted c),
    leads AS (
        SELECT p.*, lag(answer) OVER (PARTITION BY asked_at, request_id, step_index ORDER BY sample_index) AS previous
        FROM peaks p WHERE votes > coalesce(peak, 0))
    SELECT request_id, asked_at, step_index, sample_index, previous AS from_answer, answer AS to_answer, votes
    FROM leads WHERE previous <> answer
"""
_BACKFILL = (
    """
    WITH counts AS (
        SELECT b.asked_at, b.request_id, b.step_index, count(*) AS num_votes,
               count(*) FILTER (WHERE b.answer = v.answer) AS num_for_winner
        FROM ballots b JOIN verdicts v USING (asked_at, request_id, step_index)
        WHERE b.answer IS NOT NULL AND b.failure IS NULL GROUP BY 1, 2, 3)
    UPDATE verdicts v SET num_votes = c.num_votes, num_for_winner = c.num_for_winner FROM counts c
    WHERE (v.asked_at, v.request_id, v.step_index) = (c.asked_at, c.request_id, c.step_index)
    """,
    f"""
    UPDATE verdict_payloads p SET flips = f.flips FROM (
        SELECT asked_at, request_id, step_index,
               jsonb_agg(jsonb_build_object('sample_index', sample_index, 'from_answer', from_answer, 'to_answer', to_answer,
                                            'votes', votes) ORDER BY sample_index) AS flips
        FROM ({_OF_BALLOTS}) of_ballots GROUP BY 1, 2, 3) f
    WHERE (p.asked_at, p.request_id, p.step_index) = (f.asked_at, f.request_id, f.step_index)
    """,
    """
    UPDATE verdicts v SET num_votes = coalesce(num_votes, 0), num_for_winner = coalesce(num_for_winner, 0),
                          num_flips = coalesce(jsonb_array_length(p.flips), 0)
    FROM verdict_payloads p WHERE (v.asked_at, v.request_id, v.step_index) = (p.asked_at, p.request_id, p.step_index)
    """,
)
_FLIPPED = """
    SELECT p.request_id, p.asked_at, p.step_index, f.sample_index, f.from_answer, f.to_answer, f.votes
    FROM verdict_payloads p CROSS JOIN LATERAL jsonb_to_recordset(p.flips)
        AS f (sample_index smallint, from_answer text, to_answer text, votes bigint)
    WHERE p.flips IS NOT NULL
"""
_ARM_VOTES = """
    SELECT policy, arm, count(*) AS steps, sum(num_votes) AS votes, sum(num_for_winner) AS votes_for_winner,
           sum(num_for_winner)::double precision / nullif(sum(num_votes), 0) AS share_for_winner, avg(agreement) AS mean_agreement,
           avg(entropy) AS mean_entropy, count(*) FILTER (WHERE num_flips > 0) AS flipped_steps, sum(num_flips) AS flips
    FROM verdicts GROUP BY policy, arm
"""
_COMMENTS = {
    "flipped_votes": "One row a ballot, in launch order, that put another answer in the lead.",
    "arm_votes": "One row a policy and arm: steps decided, votes and how many were for the winner, and how often the lead changed.",
}


def upgrade() -> None:
    """Counts what there is, too."""
    op.execute("ALTER TABLE verdicts " + ", ".join(f"ADD {name} smallint" for name in _COUNTS))
    op.execute("ALTER TABLE verdict_payloads ADD flips jsonb")
    for statement in _BACKFILL:
        op.execute(statement)
    op.execute("CREATE INDEX verdict_payloads_flipped ON verdict_payloads (asked_at) WHERE flips IS NOT NULL")
    _view("flipped_votes", _FLIPPED)
    _view("arm_votes", _ARM_VOTES)


def downgrade() -> None:
    """Ballots are counted at each question again."""
    op.execute("DROP VIEW arm_votes")
    _view("flipped_votes", _OF_BALLOTS)
    op.execute("DROP INDEX verdict_payloads_flipped")
    op.execute("ALTER TABLE verdict_payloads DROP flips")
    op.execute("ALTER TABLE verdicts " + ", ".join(f"DROP {name}" for name in _COUNTS))


def _view(name: str, query: str) -> None:
    op.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
    op.execute(f"COMMENT ON VIEW {name} IS '{_COMMENTS[name]}'")
    op.execute(f"GRANT SELECT ON {name} TO analyst")
