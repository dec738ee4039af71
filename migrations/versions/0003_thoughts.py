"""Steps with what they were asked for and why, strategies in place of routes, policies once each by digest."""

from alembic import op

revision = "0003"
down_revision = "0002"

_SUMMARY = """
    CREATE VIEW request_summary AS
    SELECT r.request_id, r.asked_at, p.question, p.tags, coalesce(a.strategy, pl.strategy) AS strategy,
           coalesce(a.policy, pl.policy) AS policy, pl.policy_digest, coalesce(a.arm, pl.arm) AS arm, a.outcome, a.failure,
           a.answer, a.confidence, a.margin, a.answered_by, a.num_paths, a.tokens_in, a.tokens_out, a.elapsed_ms, a.answered_at
    FROM requests r
    LEFT JOIN request_payloads p USING (asked_at, request_id)
    LEFT JOIN plans pl USING (asked_at, request_id)
    LEFT JOIN answers a USING (asked_at, request_id)
"""
_OLD_SUMMARY = """
    CREATE VIEW request_summary AS
    SELECT r.request_id, r.asked_at, p.question, p.tags, pl.route, coalesce(a.policy, pl.policy) AS policy,
           coalesce(a.arm, pl.arm) AS arm, a.outcome, a.failure, a.answer, a.confidence, a.margin, a.num_paths,
           a.tokens_in, a.tokens_out, a.elapsed_ms, a.answered_at
    FROM requests r
    LEFT JOIN request_payloads p USING (asked_at, request_id)
    LEFT JOIN plans pl USING (asked_at, request_id)
    LEFT JOIN answers a USING (asked_at, request_id)
"""
_COMMENT = "One row a request: what was asked, how it was reasoned about, and what it came to."

_ASKED_STEPS = """
    CREATE VIEW asked_steps AS
    SELECT s.request_id, s.asked_at, s.step_index, s.ask, s.mark, s.depends_on, p.question, p.why, v.outcome, v.answer,
           v.confidence, a.answered_by = s.step_index AS is_answer
    FROM steps s
    LEFT JOIN step_payloads p USING (asked_at, request_id, step_index)
    LEFT JOIN verdicts v USING (asked_at, request_id, step_index)
    LEFT JOIN answers a USING (asked_at, request_id)
"""
_ASKED_STEPS_COMMENT = "One row a step: what a strategy asked, leaning on which steps and why, and what it came to."


def upgrade() -> None:
    """Rows of before keep what they say: every request was a vote on its one question."""
    op.execute("DROP VIEW request_summary")
    op.execute("""
        CREATE TABLE policies (digest text PRIMARY KEY, name text NOT NULL, version integer NOT NULL,
                               recorded_at timestamptz NOT NULL, policy jsonb NOT NULL)
    """)
    op.execute("ALTER TABLE plans RENAME COLUMN route TO strategy")
    op.execute("UPDATE plans SET strategy = 'vote'")
    op.execute("ALTER TABLE plans ADD policy_digest text NOT NULL DEFAULT '', ADD weights_version bigint")
    op.execute("ALTER TABLE plan_payloads RENAME COLUMN policy TO reasons")
    op.execute("UPDATE plan_payloads SET reasons = '{}'")
    op.execute("ALTER TABLE steps ADD ask text NOT NULL DEFAULT 'whole', ADD mark text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE step_payloads ALTER question DROP NOT NULL")
    op.execute("ALTER TABLE step_payloads ADD fields jsonb NOT NULL DEFAULT '{}', ADD why text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE paths ADD probability double precision")
    op.execute("ALTER TABLE ballots ADD probability double precision")
    op.execute("ALTER TABLE answers RENAME COLUMN route TO strategy")
    op.execute("UPDATE answers SET strategy = 'vote' WHERE strategy IS NOT NULL")
    op.execute("ALTER TABLE answers ADD answered_by smallint")
    _view("request_summary", _SUMMARY, _COMMENT)
    _view("asked_steps", _ASKED_STEPS, _ASKED_STEPS_COMMENT)


def downgrade() -> None:
    """The record as the first version had it; what it had no room for is lost."""
    op.execute("DROP VIEW asked_steps")
    op.execute("DROP VIEW request_summary")
    op.execute("ALTER TABLE answers DROP answered_by")
    op.execute("ALTER TABLE answers RENAME COLUMN strategy TO route")
    op.execute("ALTER TABLE ballots DROP probability")
    op.execute("ALTER TABLE paths DROP probability")
    op.execute("ALTER TABLE step_payloads DROP fields, DROP why")
    op.execute("UPDATE step_payloads SET question = '' WHERE question IS NULL")
    op.execute("ALTER TABLE step_payloads ALTER question SET NOT NULL")
    op.execute("ALTER TABLE steps DROP ask, DROP mark")
    op.execute("ALTER TABLE plan_payloads RENAME COLUMN reasons TO policy")
    op.execute("ALTER TABLE plans DROP policy_digest, DROP weights_version")
    op.execute("ALTER TABLE plans RENAME COLUMN strategy TO route")
    op.execute("DROP TABLE policies")
    _view("request_summary", _OLD_SUMMARY, _COMMENT)


def _view(name: str, query: str, comment: str) -> None:
    op.execute(query)
    op.execute(f"COMMENT ON VIEW {name} IS '{comment.replace(chr(39), chr(39) * 2)}'")
    op.execute(f"GRANT SELECT ON {name} TO analyst")
