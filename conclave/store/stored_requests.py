"""Requests as they were served, with all that was decoded for them and what was said of their answers, from the record."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from conclave.domain.counterfactual.again import RecordedRequest, RecordedStep, usable
from conclave.store.connection import lost_when_away, make_engine
from schemas.ids import asked_at_ms
from schemas.values import Ballot, PathFailure, Policy, Step

Row = Mapping[Any, Any]

# What was thought about and ended by itself. Rewards of all sources are averaged; of corrections, an expert's or a program's comes
# first, then the newest. What was erased has no question left.
_REQUESTS = text("""
    WITH wanted AS (
        SELECT a.asked_at, a.request_id, a.answer, p.propensity, p.policy_digest, p.experiment, p.revision, p.draw, p.segment
        FROM answers a JOIN plans p USING (asked_at, request_id)
        WHERE a.asked_at >= :since AND (a.failure IS NULL OR a.failure = 'no_answer') AND p.recalled_from IS NULL
              AND p.shadow_of IS NULL
              AND (CAST(:experiment AS text) IS NULL OR (p.experiment = :experiment AND p.revision = CAST(:revision AS bigint)))
              AND (CAST(:served_by AS text) IS NULL OR p.policy = :served_by)
        ORDER BY a.asked_at DESC, a.request_id DESC LIMIT :limit),
    judged AS (
        SELECT f.asked_at, f.request_id, avg(f.reward) AS reward,
               (array_agg(f.right_answer ORDER BY (f.rater = 'user'), f.given_at DESC)
                   FILTER (WHERE f.right_answer IS NOT NULL))[1] AS right_answer
        FROM given_feedback f
        WHERE f.asked_at >= :since AND f.is_latest AND f.step_index IS NULL AND f.metric = 'reward' GROUP BY 1, 2),
    counted AS (
        SELECT b.asked_at, b.request_id, count(*) AS num_samples, sum(b.tokens_out) AS tokens_out
        FROM ballots b WHERE b.asked_at >= :since GROUP BY 1, 2)
    SELECT w.asked_at, w.request_id, w.answer, w.propensity, w.policy_digest, w.experiment, w.revision, w.draw, w.segment,
           q.question,
           r.max_samples, r.quality, j.reward, j.right_answer, coalesce(c.num_samples, 0) AS num_samples,
           coalesce(c.tokens_out, 0) AS tokens_out,
           EXISTS (SELECT FROM verdict_payloads v WHERE v.asked_at = w.asked_at AND v.request_id = w.request_id
                   AND v.fields IS NOT NULL) AS is_structured
    FROM wanted w
    JOIN requests r USING (asked_at, request_id)
    JOIN request_payloads q USING (asked_at, request_id)
    LEFT JOIN judged j USING (asked_at, request_id)
    LEFT JOIN counted c USING (asked_at, request_id)
    WHERE q.question <> ''
    ORDER BY w.asked_at, w.request_id
""")
_POLICIES = text("SELECT digest, policy FROM policies WHERE digest = ANY(:digests)")
_STEPS = text("""
    SELECT s.request_id, s.step_index, s.ask, s.mark, s.depends_on, t.fields, t.why
    FROM steps s JOIN step_payloads t USING (asked_at, request_id, step_index)
    WHERE s.asked_at >= :since AND s.request_id = ANY(:ids) AND t.fields <> '{}' ORDER BY s.request_id, s.step_index
""")
_PATHS = text("""
    SELECT request_id, step_index, sample_index, answer, failure, tokens_in, tokens_out, probability, mean_logprob, answer_logprob,
           lowest_group_logprob, tail_logprob, is_declined
    FROM paths WHERE asked_at >= :since AND request_id = ANY(:ids) ORDER BY request_id, step_index, sample_index
""")
_FIGURES = ("probability", "mean_logprob", "answer_logprob", "lowest_group_logprob", "tail_logprob", "is_declined")


async def stored_requests(
    dsn: str, *, since: datetime, limit: int, served_by: str | None = None, run: tuple[str, int] | None = None
) -> list[RecordedRequest]:
    """The latest requests since a time that ended by themselves, by time of asking.

    Those of a policy only, if one is named, and those that the run of an experiment (its name and revision) assigned. What was
    recalled or erased is left out, and the copies that shadows answered. Raises: LostDependency.
    """
    engine = make_engine(dsn)
    try:
        async with lost_when_away(), engine.connect() as connection:
            await connection.execute(text("SET LOCAL work_mem = '64MB'"))
            experiment, revision = run or (None, None)
            asked = {
                "since": since,
                "limit": limit,
                "served_by": served_by,
                "experiment": experiment,
                "revision": revision,
            }
            requests = (await connection.execute(_REQUESTS, asked)).mappings().all()
            return await _with_steps(connection, requests, since)
    finally:
        await engine.dispose()


async def _with_steps(connection: AsyncConnection, requests: Sequence[Row], since: datetime) -> list[RecordedRequest]:
    wanted = {"since": since, "ids": [row["request_id"] for row in requests]}
    digests = sorted({row["policy_digest"] for row in requests})
    policies = {
        digest: msgspec.convert(policy, Policy)
        for digest, policy in await connection.execute(_POLICIES, {"digests": digests})
    }
    steps, paths = defaultdict(list), defaultdict(list)
    for row in (await connection.execute(_PATHS, wanted)).mappings():
        paths[row["request_id"], row["step_index"]].append(_ballot(row))
    for row in (await connection.execute(_STEPS, wanted)).mappings():
        steps[row["request_id"]].append(row)
    return [
        _request(row, policies[row["policy_digest"]], steps[row["request_id"]], paths)
        for row in requests
        if row["policy_digest"] in policies  # the first version of plans had none
    ]


def _request(row: Row, policy: Policy, steps: Sequence[Row], paths: Mapping[Any, list[Ballot]]) -> RecordedRequest:
    request_id = str(row["request_id"])
    recorded = tuple(
        RecordedStep(
            _step(each),
            policy.asks[each["ask"]],
            policy.prompt_set,
            usable(paths[row["request_id"], each["step_index"]]),
        )
        for each in steps
        if each["ask"] in policy.asks
    )
    return RecordedRequest(
        request_id=request_id,
        asked_ms=asked_at_ms(request_id),
        question=row["question"],
        policy=policy,
        steps=recorded,
        answer=row["answer"],
        num_samples=row["num_samples"],
        tokens_out=int(row["tokens_out"]),
        max_samples=row["max_samples"],
        quality=row["quality"],
        is_structured=row["is_structured"],
        propensity=row["propensity"],
        reward=None if row["reward"] is None else float(row["reward"]),
        right_answer=row["right_answer"],
        experiment=row["experiment"],
        revision=row["revision"],
        draw=row["draw"],
        segment=row["segment"],
    )


def _step(row: Row) -> Step:
    return Step(
        index=row["step_index"],
        ask=row["ask"],
        fields=row["fields"],
        mark=row["mark"],
        depends_on=tuple(row["depends_on"]),
        why=row["why"],
    )


def _ballot(row: Row) -> Ballot:
    return Ballot(
        sample_index=row["sample_index"],
        answer=row["answer"] or None,
        failure=PathFailure(row["failure"]) if row["failure"] else None,
        tokens_in=row["tokens_in"] or 0,
        tokens_out=row["tokens_out"] or 0,
        **{name: row[name] for name in _FIGURES},
    )
