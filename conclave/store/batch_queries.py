"""The SQL of batches. A line's `state` says which index has it; a batch's counts are of lines whose state is `ended`."""

from sqlalchemy import text

from conclave.store.forgetting import statement

ADD_BATCH = text("""
    INSERT INTO gateway_batches (batch_id, tenant, file_id, window_s, is_redacted, metadata, deadline_at, num_lines, num_failed,
        num_bytes, idempotency_key, digest)
    VALUES (:batch_id, :tenant, :file_id, :window_s, :is_redacted, CAST(:metadata AS jsonb), now() + CAST(:window AS interval),
        :num_lines, :num_failed, :num_bytes, :key, :digest)
""")
ADD_LINES = text("""
    INSERT INTO gateway_batch_lines (batch_id, line, custom_id, body, error, state)
    SELECT :batch_id, line, custom_id, body, error, CASE WHEN error IS NULL THEN 'waiting' ELSE 'ended' END
    FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS given (line integer, custom_id text, body jsonb, error text)
""")
BEFORE = "(created_at, batch_id) < (SELECT created_at, batch_id FROM gateway_batches WHERE batch_id = :after)"
# What has ended since the last claim is found among the few lines that are open.
BATCHES = """
    SELECT b.batch_id, b.tenant, b.file_id, b.window_s, b.metadata, b.created_at, b.deadline_at, b.cancelled_at,
           b.deadline_at <= now() AS is_over, b.num_lines, b.num_answered + o.num_answered AS num_answered,
           b.num_failed + o.num_failed AS num_failed, b.num_unasked, o.num_open
    FROM (SELECT * FROM gateway_batches WHERE {condition} ORDER BY created_at DESC, batch_id DESC LIMIT :limit) b
    CROSS JOIN LATERAL (
        SELECT count(a.request_id) FILTER (WHERE a.failure IS NULL) AS num_answered, count(a.failure) AS num_failed,
               count(*) FILTER (WHERE a.request_id IS NULL) AS num_open
        FROM gateway_batch_lines l LEFT JOIN answers a ON a.request_id = l.request_id AND a.asked_at = l.asked_at
        WHERE l.batch_id = b.batch_id AND l.state = 'open') o
    ORDER BY b.created_at DESC, b.batch_id DESC
"""
CANCEL = text("""
    UPDATE gateway_batches SET cancelled_at = now()
    WHERE batch_id = :batch_id AND cancelled_at IS NULL AND deadline_at > now()
        AND num_answered + num_failed + num_unasked < num_lines - (
        SELECT count(*) FROM gateway_batch_lines l JOIN answers a ON a.request_id = l.request_id AND a.asked_at = l.asked_at
        WHERE l.batch_id = :batch_id AND l.state = 'open')
""")
OPEN = text("""
    SELECT l.request_id, b.window_s FROM gateway_batch_lines l JOIN gateway_batches b USING (batch_id)
    WHERE l.batch_id = :batch_id AND l.state = 'open' AND l.request_id IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM answers a WHERE a.request_id = l.request_id AND a.asked_at = l.asked_at)
""")

TURN = text("SELECT pg_try_advisory_xact_lock(hashtextextended('gateway batches', 0))")
RETURN = text("""
    UPDATE gateway_batch_lines SET state = 'waiting', claimed_at = NULL
    WHERE state = 'open' AND request_id IS NULL AND claimed_at < now() - CAST(:lease AS interval)
""")
# Whether they were published nobody knows, only that it would be under the same key: asked once more, they can be cancelled.
LEFT = text("""
    UPDATE gateway_batch_lines l SET claimed_at = now() FROM gateway_batches b LEFT JOIN tenants t ON t.tenant = b.tenant
    WHERE l.state = 'open' AND l.request_id IS NULL AND l.claimed_at < now() - CAST(:lease AS interval)
        AND b.batch_id = l.batch_id AND b.cancelled_at IS NOT NULL AND b.deadline_at > now()
    RETURNING l.batch_id, l.line, l.body, b.tenant, b.is_redacted, extract(epoch FROM b.deadline_at - now()) AS left_s,
        t.tokens_per_day, coalesce(t.content, 'kept') = 'kept' AS is_kept
""")
# Of what has ended only the model is asked for again. An hour after its batch's window a request will have no end any more.
SETTLE = text("""
    WITH found AS MATERIALIZED (
        SELECT l.batch_id, l.line, a.request_id IS NULL AS is_lost, a.failure IS NOT NULL AS is_failed
        FROM gateway_batch_lines l JOIN gateway_batches b USING (batch_id)
        LEFT JOIN answers a ON a.request_id = l.request_id AND a.asked_at = l.asked_at
        WHERE l.state = 'open' AND l.request_id IS NOT NULL
            AND (a.request_id IS NOT NULL OR b.deadline_at < now() - interval '1 hour')),
    settled AS (
        UPDATE gateway_batch_lines l SET state = 'ended', body = jsonb_build_object('model', l.body -> 'model') FROM found f
        WHERE l.batch_id = f.batch_id AND l.line = f.line AND l.state = 'open' RETURNING l.batch_id, f.is_lost, f.is_failed),
    counts AS (
        SELECT batch_id, count(*) FILTER (WHERE is_failed) AS num_failed, count(*) FILTER (WHERE is_lost) AS num_lost,
               count(*) FILTER (WHERE NOT is_failed AND NOT is_lost) AS num_answered
        FROM settled GROUP BY batch_id)
    UPDATE gateway_batches b SET num_answered = b.num_answered + c.num_answered, num_failed = b.num_failed + c.num_failed,
        num_unasked = b.num_unasked + c.num_lost
    FROM counts c WHERE b.batch_id = c.batch_id
""")
SWEEP = text("""
    WITH found AS MATERIALIZED (
        SELECT l.batch_id, l.line FROM gateway_batches b CROSS JOIN LATERAL (
            SELECT batch_id, line FROM gateway_batch_lines WHERE batch_id = b.batch_id AND state = 'waiting' LIMIT :limit) l
        WHERE b.num_answered + b.num_failed + b.num_unasked < b.num_lines AND (b.deadline_at <= now() OR b.cancelled_at IS NOT NULL)
        LIMIT :limit),
    swept AS (
        UPDATE gateway_batch_lines l SET state = 'ended', body = jsonb_build_object('model', l.body -> 'model') FROM found f
        WHERE l.batch_id = f.batch_id AND l.line = f.line AND l.state = 'waiting' RETURNING l.batch_id)
    UPDATE gateway_batches b SET num_unasked = b.num_unasked + c.num_swept
    FROM (SELECT batch_id, count(*) AS num_swept FROM swept GROUP BY batch_id) c WHERE b.batch_id = c.batch_id
""")
# Whoever has the fewest open is served next: a line's turn is how many its tenant would have open with it. Of each batch, and of
# each tenant, no more lines are read than there is room for, whatever waits.
CLAIM = text("""
    WITH busy AS MATERIALIZED (
        SELECT b.tenant, count(*) AS num_open FROM gateway_batch_lines l JOIN gateway_batches b USING (batch_id)
        WHERE l.state = 'open' AND b.deadline_at > now() GROUP BY b.tenant),
    room AS MATERIALIZED (SELECT greatest(0, :max_open - coalesce(sum(num_open), 0))::bigint AS lines FROM busy),
    able AS MATERIALIZED (
        SELECT DISTINCT b.tenant FROM gateway_batches b LEFT JOIN tenants t ON t.tenant = b.tenant AND t.waits_until > now()
        WHERE b.num_answered + b.num_failed + b.num_unasked < b.num_lines AND b.deadline_at > now() AND b.cancelled_at IS NULL
            AND t.tenant IS NULL),
    chosen AS MATERIALIZED (
        SELECT n.batch_id, n.line FROM able LEFT JOIN busy USING (tenant) CROSS JOIN LATERAL (
            SELECT b.batch_id, l.line, b.deadline_at, row_number() OVER (ORDER BY b.deadline_at, b.batch_id, l.line) AS turn
            FROM gateway_batches b CROSS JOIN LATERAL (
                SELECT line FROM gateway_batch_lines WHERE batch_id = b.batch_id AND state = 'waiting'
                ORDER BY line LIMIT (SELECT lines FROM room)) l
            WHERE b.tenant = able.tenant AND b.num_answered + b.num_failed + b.num_unasked < b.num_lines AND b.deadline_at > now()
                AND b.cancelled_at IS NULL
            ORDER BY b.deadline_at, b.batch_id, l.line LIMIT (SELECT lines FROM room)) n
        ORDER BY coalesce(busy.num_open, 0) + n.turn, n.deadline_at, n.batch_id, n.line LIMIT (SELECT lines FROM room))
    UPDATE gateway_batch_lines l SET state = 'open', claimed_at = now()
    FROM chosen c, gateway_batches b LEFT JOIN tenants t ON t.tenant = b.tenant
    WHERE l.batch_id = c.batch_id AND l.line = c.line AND l.state = 'waiting' AND b.batch_id = c.batch_id
    RETURNING l.batch_id, l.line, l.body, b.tenant, b.is_redacted, extract(epoch FROM b.deadline_at - now()) AS left_s,
        t.tokens_per_day, coalesce(t.content, 'kept') = 'kept' AS is_kept
""")

IS_GOING_ON = text("SELECT cancelled_at IS NULL FROM gateway_batches WHERE batch_id = :batch_id FOR SHARE")
ASKED = text("""
    UPDATE gateway_batch_lines SET request_id = :request_id, asked_at = :asked_at,
        state = CASE WHEN state = 'ended' THEN 'ended' ELSE 'open' END, claimed_at = coalesce(claimed_at, now())
    WHERE batch_id = :batch_id AND line = :line AND (state <> 'ended' OR request_id = :request_id)
""")
PUT_BACK = text("""
    UPDATE gateway_batch_lines SET state = 'waiting', claimed_at = NULL
    WHERE batch_id = :batch_id AND line = :line AND state = 'open' AND request_id IS NULL
""")
REFUSED = text("""
    WITH refused AS (
        UPDATE gateway_batch_lines SET error = :error, state = 'ended'
        WHERE batch_id = :batch_id AND line = :line AND state <> 'ended' AND request_id IS NULL RETURNING batch_id)
    UPDATE gateway_batches b SET num_failed = b.num_failed + 1 FROM refused r WHERE b.batch_id = r.batch_id
""")
ENDED = text("""
    SELECT l.line, l.custom_id, l.error, l.request_id, jsonb_build_object('model', l.body -> 'model') AS body,
           a.failure, a.outcome, a.answer, a.confidence, a.margin, a.strategy, a.policy, a.arm, a.answered_by,
           a.num_paths, a.tokens_in, a.tokens_out, a.elapsed_ms, p.message, p.steps, p.tally, v.fields, g.content, CASE
               WHEN l.error IS NOT NULL OR a.request_id IS NOT NULL THEN NULL
               WHEN b.cancelled_at IS NOT NULL THEN 'batch_cancelled' ELSE 'batch_expired' END AS unasked
    FROM gateway_batches b JOIN gateway_batch_lines l USING (batch_id)
    LEFT JOIN answers a ON a.request_id = l.request_id AND a.asked_at = l.asked_at
    LEFT JOIN gateway_requests g ON g.request_id = a.request_id
    LEFT JOIN answer_payloads p ON p.request_id = a.request_id AND p.asked_at = a.asked_at
    LEFT JOIN verdict_payloads v
        ON v.request_id = a.request_id AND v.asked_at = a.asked_at AND v.step_index = coalesce(a.answered_by, 0)
    WHERE b.batch_id = :batch_id AND l.line >= :first AND (
        l.state = 'ended' OR a.request_id IS NOT NULL
        OR (l.state = 'waiting' AND (b.cancelled_at IS NOT NULL OR b.deadline_at <= now())))
    ORDER BY l.line LIMIT :limit
""")
FORGET = statement("gateway_batches", "batch_id")
