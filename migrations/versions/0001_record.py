"""The record: requests, plans, steps, paths, ballots, verdicts, answers and feedback, and the recorder's offsets.

Every table is partitioned by `asked_at`, the time inside the request's UUIDv7, so a redelivered event always meets the row
that it repeats. Texts lie in a table apart: analysts' scans of the figures never read them.
"""

from alembic import op

revision = "0001"
down_revision = None

_KEY = "request_id uuid NOT NULL, asked_at timestamptz NOT NULL"
_STEP = f"{_KEY}, step_index smallint NOT NULL"
_PATH = f"{_STEP}, sample_index smallint NOT NULL"
_REQUEST_KEY = "asked_at, request_id"
_STEP_KEY = f"{_REQUEST_KEY}, step_index"
_PATH_KEY = f"{_STEP_KEY}, sample_index"

# Name, columns, natural key. Column order is the order of COPY (conclave.store.rows).
_TABLES = (
    (
        "requests",
        f"""{_KEY}, recorded_at timestamptz NOT NULL, policy text, max_samples smallint,
        deadline_s double precision NOT NULL, traceparent text""",
        _REQUEST_KEY,
    ),
    ("request_payloads", f"{_KEY}, question text NOT NULL, tags jsonb NOT NULL", _REQUEST_KEY),
    (
        "plans",
        f"""{_KEY}, planned_at timestamptz NOT NULL, route text NOT NULL, arm text NOT NULL,
        propensity double precision NOT NULL, policy text NOT NULL, num_steps smallint NOT NULL,
        deadline_at timestamptz NOT NULL""",
        _REQUEST_KEY,
    ),
    ("plan_payloads", f"{_KEY}, policy jsonb NOT NULL", _REQUEST_KEY),
    ("steps", f"{_STEP}, depends_on smallint[] NOT NULL", _STEP_KEY),
    ("step_payloads", f"{_STEP}, question text NOT NULL", _STEP_KEY),
    (
        "paths",
        f"""{_PATH}, recorded_at timestamptz NOT NULL, launched smallint NOT NULL, failure text, answer text,
        finish_reason text, tokens_in integer NOT NULL, tokens_out integer NOT NULL, mean_logprob double precision,
        min_logprob double precision, queued_ms double precision, first_token_ms double precision,
        total_ms double precision NOT NULL, model text, engine text, policy text NOT NULL, arm text NOT NULL""",
        _PATH_KEY,
    ),
    ("path_payloads", f"{_PATH}, text text NOT NULL", _PATH_KEY),
    (
        "ballots",
        f"""{_PATH}, answer text, weight double precision NOT NULL, failure text, tokens_in integer NOT NULL,
        tokens_out integer NOT NULL, mean_logprob double precision""",
        _PATH_KEY,
    ),
    (
        "verdicts",
        f"""{_STEP}, decided_at timestamptz NOT NULL, outcome text NOT NULL, stop_reason text NOT NULL, answer text,
        confidence double precision NOT NULL, margin double precision NOT NULL, agreement double precision NOT NULL,
        entropy double precision NOT NULL, launched smallint NOT NULL, policy text NOT NULL, arm text NOT NULL""",
        _STEP_KEY,
    ),
    ("verdict_payloads", f"{_STEP}, tally jsonb NOT NULL", _STEP_KEY),
    (
        "answers",
        f"""{_KEY}, answered_at timestamptz NOT NULL, failure text, outcome text, answer text,
        confidence double precision, margin double precision, route text, arm text, policy text, num_paths integer NOT NULL,
        tokens_in bigint NOT NULL, tokens_out bigint NOT NULL, elapsed_ms double precision NOT NULL""",
        _REQUEST_KEY,
    ),
    ("answer_payloads", f"{_KEY}, message text, steps jsonb NOT NULL, tally jsonb NOT NULL", _REQUEST_KEY),
    (
        "feedback",
        f"{_KEY}, event_id text NOT NULL, given_at timestamptz NOT NULL, reward double precision, source text NOT NULL",
        f"{_REQUEST_KEY}, event_id",
    ),
    (
        "feedback_payloads",
        f"{_KEY}, event_id text NOT NULL, right_answer text, comment text",
        f"{_REQUEST_KEY}, event_id",
    ),
)

_OFFSETS = """
CREATE TABLE consumer_offsets (
    topic text NOT NULL, "partition" integer NOT NULL, next_offset bigint NOT NULL DEFAULT 0, epoch bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, "partition"))
"""

# Name, comment, query. Executed with the owner's rights: analysts need none on the tables.
_VIEWS = (
    (
        "request_summary",
        "One row a request: what was asked, how it was reasoned about, and what it came to.",
        """
        SELECT r.request_id, r.asked_at, p.question, p.tags, pl.route, coalesce(a.policy, pl.policy) AS policy,
               coalesce(a.arm, pl.arm) AS arm, a.outcome, a.failure, a.answer, a.confidence, a.margin, a.num_paths,
               a.tokens_in, a.tokens_out, a.elapsed_ms, a.answered_at
        FROM requests r
        LEFT JOIN request_payloads p USING (asked_at, request_id)
        LEFT JOIN plans pl USING (asked_at, request_id)
        LEFT JOIN answers a USING (asked_at, request_id)""",
    ),
    (
        "path_votes",
        "One row a path with its vote: did it count, and did it vote for the step's answer?",
        """
        SELECT p.request_id, p.asked_at, p.step_index, p.sample_index, p.failure, b.answer AS vote, b.weight,
               b.sample_index IS NOT NULL AS is_counted, b.answer = v.answer AS is_for_winner, p.finish_reason,
               p.tokens_in, p.tokens_out, p.mean_logprob, p.min_logprob, p.queued_ms, p.first_token_ms, p.total_ms,
               p.model, p.engine, p.policy, p.arm, t.text
        FROM paths p
        LEFT JOIN path_payloads t USING (asked_at, request_id, step_index, sample_index)
        LEFT JOIN ballots b USING (asked_at, request_id, step_index, sample_index)
        LEFT JOIN verdicts v USING (asked_at, request_id, step_index)""",
    ),
    (
        "step_agreement",
        "One row a decided step: how much its paths agreed. Entropy in bits.",
        """
        SELECT v.request_id, v.asked_at, v.step_index, v.outcome, v.stop_reason, v.answer, v.confidence, v.margin, v.agreement,
               v.entropy, v.launched, v.policy, v.arm, v.decided_at, t.tally
        FROM verdicts v LEFT JOIN verdict_payloads t USING (asked_at, request_id, step_index)""",
    ),
    (
        "flipped_votes",
        "One row a ballot, in launch order, that put another answer in the lead.",
        """
        WITH counted AS (
            SELECT b.*, count(*) OVER (PARTITION BY asked_at, request_id, step_index, answer ORDER BY sample_index) AS votes
            FROM ballots b WHERE answer IS NOT NULL AND failure IS NULL),
        peaks AS (
            SELECT c.*, max(votes) OVER (PARTITION BY asked_at, request_id, step_index ORDER BY sample_index
                                         ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS peak FROM counted c),
        leads AS (
            SELECT p.*, lag(answer) OVER (PARTITION BY asked_at, request_id, step_index ORDER BY sample_index) AS previous
            FROM peaks p WHERE votes > coalesce(peak, 0))
        SELECT request_id, asked_at, step_index, sample_index, previous AS from_answer, answer AS to_answer, votes
        FROM leads WHERE previous <> answer""",
    ),
    (
        "policy_cost",
        "One row a policy and arm: answers, cost and latency.",
        """
        SELECT policy, arm, count(*) AS requests, count(*) FILTER (WHERE failure IS NULL) AS answered,
               avg(confidence) AS mean_confidence, avg(num_paths) AS mean_paths, sum(tokens_in) AS tokens_in,
               sum(tokens_out) AS tokens_out, avg(tokens_out) AS mean_tokens_out,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY elapsed_ms) AS p50_ms,
               percentile_cont(0.95) WITHIN GROUP (ORDER BY elapsed_ms) AS p95_ms
        FROM answers GROUP BY policy, arm""",
    ),
    (
        "failed_paths",
        "One row a sample that became no path, and why.",
        """
        SELECT p.request_id, p.asked_at, p.step_index, p.sample_index, p.failure, t.text AS message, p.total_ms, p.policy, p.arm
        FROM paths p LEFT JOIN path_payloads t USING (asked_at, request_id, step_index, sample_index)
        WHERE p.failure IS NOT NULL""",
    ),
    (
        "given_feedback",
        "One row a piece of feedback, next to the answer that it is about.",
        """
        SELECT f.request_id, f.asked_at, f.given_at, f.source, f.reward, t.right_answer, t.comment, a.answer, a.policy, a.arm
        FROM feedback f
        LEFT JOIN feedback_payloads t USING (asked_at, request_id, event_id)
        LEFT JOIN answers a USING (asked_at, request_id)""",
    ),
)

_ROLE = """
DO $$ BEGIN
    CREATE ROLE analyst NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""


def upgrade() -> None:
    """Creates everything; partitions are made by the recorder, ahead of time."""
    for name, columns, key in _TABLES:
        op.execute(f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({key})) PARTITION BY RANGE (asked_at)")
        op.execute(f"CREATE INDEX {name}_request ON {name} (request_id)")
    op.execute(_OFFSETS)
    op.execute(_ROLE)
    for name, comment, query in _VIEWS:
        op.execute(f"CREATE VIEW {name} AS {query}")
        op.execute(f"COMMENT ON VIEW {name} IS '{comment.replace(chr(39), chr(39) * 2)}'")
        op.execute(f"GRANT SELECT ON {name} TO analyst")
    op.execute("GRANT USAGE ON SCHEMA public TO analyst")


def downgrade() -> None:
    """Drops the record. The role stays: other databases of the server may use it."""
    for name, _, _ in reversed(_VIEWS):
        op.execute(f"DROP VIEW {name}")
    op.execute("DROP TABLE consumer_offsets")
    for name, _, _ in reversed(_TABLES):
        op.execute(f"DROP TABLE {name}")
    op.execute("REVOKE USAGE ON SCHEMA public FROM analyst")
