-- A week of requests with their paths, votes, answers and feedback, for benchmarks/analyst.py. `conclave.requests` and
-- `conclave.days` say how many over how long. Half of the requests are in an experiment of two arms, every third one is judged; each has
-- a vote of four to twelve paths, which are right by how easy its question is.
SELECT setseed(0.5);

CREATE TEMPORARY TABLE wanted AS
SELECT current_setting('conclave.requests')::int AS num, current_setting('conclave.days')::int * interval '1 day' AS span;

CREATE TEMPORARY TABLE asked AS
SELECT (lpad(to_hex((extract(epoch FROM asked_at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
        || substr(md5(n::text), 4, 15))::uuid AS request_id,
       date_trunc('milliseconds', asked_at) AS asked_at, n, 4 + n % 9 AS num_paths, n % 3 = 0 AS is_judged, n % 2 = 0 AS is_assigned,
       (ARRAY['default', 'fixed-8', 'quick', 'sure'])[1 + n % 4] AS policy, (ARRAY['a', 'b'])[1 + n / 2 % 2] AS arm,
       0.35 + 0.6 * random() AS skill, (random() * 900)::int AS right_answer
FROM (SELECT n, now() - interval '1 hour' - n * ((SELECT span FROM wanted) / (SELECT num FROM wanted)) AS asked_at
      FROM generate_series(1, (SELECT num FROM wanted)) n) g;

CREATE TEMPORARY TABLE cast_votes AS
SELECT r.request_id, r.asked_at, (s.n - 1)::smallint AS sample_index, r.policy, r.arm, r.num_paths,
       CASE WHEN random() < 0.01 THEN 'engine' END AS failure,
       CASE WHEN random() < r.skill THEN r.right_answer ELSE r.right_answer + 1 + (random() * 4)::int END::text AS answer
FROM asked r CROSS JOIN LATERAL generate_series(1, r.num_paths) AS s (n);

CREATE TEMPORARY TABLE decided AS
SELECT request_id, asked_at, (array_agg(answer ORDER BY votes DESC, first_at))[1] AS answer, sum(votes) AS num_votes,
       max(votes) / sum(votes) AS agreement, (max(votes) - coalesce((array_agg(votes ORDER BY votes DESC))[2], 0)) / sum(votes) AS margin
FROM (SELECT request_id, asked_at, answer, count(*)::float AS votes, min(sample_index) AS first_at FROM cast_votes
      WHERE failure IS NULL GROUP BY 1, 2, 3) t GROUP BY 1, 2;

-- How often the lead changed (conclave.domain.voting.flips).
CREATE TEMPORARY TABLE flips AS
WITH counted AS (
    SELECT c.*, count(*) OVER (PARTITION BY request_id, answer ORDER BY sample_index) AS votes FROM cast_votes c WHERE failure IS NULL),
peaks AS (
    SELECT c.*, max(votes) OVER (PARTITION BY request_id ORDER BY sample_index ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS peak
    FROM counted c),
leads AS (
    SELECT p.*, lag(answer) OVER (PARTITION BY request_id ORDER BY sample_index) AS previous FROM peaks p WHERE votes > coalesce(peak, 0))
SELECT asked_at, request_id, count(*) AS num_flips,
       jsonb_agg(jsonb_build_object('sample_index', sample_index, 'from_answer', previous, 'to_answer', answer, 'votes', votes)) AS flips
FROM leads WHERE previous <> answer GROUP BY 1, 2;

ANALYZE asked, cast_votes, decided, flips;

INSERT INTO requests (request_id, asked_at, recorded_at, policy, deadline_s)
SELECT request_id, asked_at, asked_at, policy, 600 FROM asked;

INSERT INTO request_payloads (request_id, asked_at, question, tags)
SELECT request_id, asked_at, 'How many apples has Tom after he bought ' || n || ' of them?', jsonb_build_object('user', n % 5000)
FROM asked;

INSERT INTO plans (request_id, asked_at, planned_at, strategy, arm, propensity, policy, num_steps, deadline_at, policy_digest,
                   weights_version, experiment, revision, unit, draw, log_partition, log_offset)
SELECT request_id, asked_at, asked_at, 'vote', CASE WHEN is_assigned THEN arm ELSE 'default' END,
       CASE WHEN is_assigned THEN 0.5 ELSE 1 END, policy, 1, asked_at + interval '600 s', md5(policy),
       CASE WHEN is_assigned THEN n / 10000 END, CASE WHEN is_assigned THEN 'trial' END, CASE WHEN is_assigned THEN 1 END,
       CASE WHEN is_assigned THEN 'user ' || n % 5000 END, CASE WHEN is_assigned THEN n END, 0, n FROM asked;

INSERT INTO plan_payloads (request_id, asked_at, reasons) SELECT request_id, asked_at, '{}' FROM asked;

INSERT INTO steps (request_id, asked_at, step_index, depends_on, ask, mark)
SELECT request_id, asked_at, 0, '{}', 'whole', '' FROM asked;

INSERT INTO step_payloads (request_id, asked_at, step_index, question, fields, why)
SELECT request_id, asked_at, 0, question, jsonb_build_object('question', question), '' FROM request_payloads;

INSERT INTO paths (request_id, asked_at, step_index, sample_index, recorded_at, launched, failure, answer, finish_reason,
                   tokens_in, tokens_out, mean_logprob, min_logprob, queued_ms, first_token_ms, total_ms, model, engine, policy, arm)
SELECT request_id, asked_at, 0, sample_index, asked_at, num_paths, failure, CASE WHEN failure IS NULL THEN answer END,
       CASE WHEN failure IS NULL THEN 'stop' END, 60, 120, -0.2, -2, 3, 30, 900, 'reasoner', 'vllm', policy, arm
FROM cast_votes;

INSERT INTO path_payloads (request_id, asked_at, step_index, sample_index, text)
SELECT request_id, asked_at, 0, sample_index, repeat('Step 1: 347 + 85 = 432. ', 4) || 'Answer: ' || answer FROM cast_votes;

INSERT INTO ballots (request_id, asked_at, step_index, sample_index, answer, weight, failure, tokens_in, tokens_out, mean_logprob)
SELECT request_id, asked_at, 0, sample_index, CASE WHEN failure IS NULL THEN answer END, 1, failure, 60, 120, -0.2
FROM cast_votes;

INSERT INTO verdicts (request_id, asked_at, step_index, decided_at, outcome, stop_reason, answer, confidence, margin, agreement,
                      entropy, launched, policy, arm, num_votes, num_for_winner, num_flips)
SELECT request_id, asked_at, 0, asked_at + interval '1 s', 'majority', 'confident', d.answer, 0.5 + d.agreement / 2, d.margin,
       d.agreement, 2 - 2 * d.agreement, num_paths, policy, arm, d.num_votes, d.num_votes * d.agreement, coalesce(f.num_flips, 0)
FROM decided d JOIN asked USING (asked_at, request_id) LEFT JOIN flips f USING (asked_at, request_id);

INSERT INTO verdict_payloads (request_id, asked_at, step_index, tally, flips)
SELECT request_id, asked_at, 0, jsonb_build_array(jsonb_build_object('answer', answer, 'votes', 5, 'weight', 5)), flips
FROM decided LEFT JOIN flips USING (asked_at, request_id);

INSERT INTO answers (request_id, asked_at, answered_at, failure, outcome, answer, confidence, margin, strategy, arm, policy, num_paths,
                     tokens_in, tokens_out, elapsed_ms, answered_by, log_partition, log_offset, ended_by)
SELECT request_id, asked_at, asked_at + interval '1 s', CASE WHEN n % 200 = 0 THEN 'no_answer' END, 'majority', CASE WHEN n % 200 <> 0 THEN d.answer END,
       0.5 + d.agreement / 2, d.margin, 'vote', arm, policy, num_paths, 60 * num_paths, 120 * num_paths, 800 + random() * 900, 0, 0, n,
       'decided'
FROM decided d JOIN asked USING (asked_at, request_id);

INSERT INTO answer_payloads (request_id, asked_at, steps, tally) SELECT request_id, asked_at, '[]', '[]' FROM asked;

INSERT INTO feedback (request_id, asked_at, event_id, given_at, reward, source, event_source, log_partition, log_offset, metric, rater,
                      is_withdrawn)
SELECT request_id, asked_at, 'f' || n, asked_at + random() * interval '1 day', (d.answer = r.right_answer::text)::int,
       'user ' || n % 5000, '/shop', 0, n, 'reward', CASE WHEN n % 30 = 0 THEN 'expert' ELSE 'user' END, false
FROM decided d JOIN asked r USING (asked_at, request_id) WHERE is_judged;

INSERT INTO feedback_payloads (request_id, asked_at, event_id, event_source, right_answer)
SELECT request_id, asked_at, 'f' || n, '/shop', CASE WHEN n % 10 = 0 THEN right_answer::text END FROM asked WHERE is_judged;
