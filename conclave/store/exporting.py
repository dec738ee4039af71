"""Rows for export: analysts' views as they are, and judged votes with the texts of their paths. What was erased is left out."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from conclave.domain.vote_learning.labels import JudgedVote
from conclave.store.connection import lost_when_away, make_engine
from schemas.values import Ballot, PathFailure, Policy

# What is exported, a file each: views that have a request and its time in every row.
VIEWS = (
    "request_summary",
    "asked_steps",
    "step_agreement",
    "path_votes",
    "given_feedback",
    "experiment_exposures",
    "experiment_outcomes",
)
_BATCH = 2_000
_ROWS = """
    SELECT v.* FROM {view} v WHERE v.asked_at >= :since AND NOT EXISTS (
        SELECT FROM request_payloads e WHERE e.asked_at = v.asked_at AND e.request_id = v.request_id AND e.question = '')
"""
_COLUMNS = text("""
    SELECT column_name, data_type FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = :view ORDER BY ordinal_position
""")
_VOTES = text("""
    WITH judged AS (
        SELECT f.asked_at, f.request_id, avg(f.reward) AS reward,
               (array_agg(f.right_answer ORDER BY (f.rater = 'user'), f.given_at DESC)
                   FILTER (WHERE f.right_answer IS NOT NULL))[1] AS right_answer
        FROM given_feedback f
        WHERE f.asked_at >= :since AND f.is_latest AND f.step_index IS NULL AND f.metric = 'reward' GROUP BY 1, 2)
    SELECT j.request_id, j.reward, j.right_answer, v.answer, s.ask, t.fields, p.policy_digest, b.sample_index,
           b.answer AS vote, b.failure, w.text, w.reasoning, x.turns = '[]' AS is_one_turn
    FROM judged j
    JOIN answers a USING (asked_at, request_id)
    JOIN plans p USING (asked_at, request_id)
    JOIN steps s ON s.asked_at = j.asked_at AND s.request_id = j.request_id AND s.step_index = a.answered_by
    JOIN step_payloads t ON t.asked_at = s.asked_at AND t.request_id = s.request_id AND t.step_index = s.step_index
    JOIN verdicts v ON v.asked_at = s.asked_at AND v.request_id = s.request_id AND v.step_index = s.step_index
    JOIN ballots b ON b.asked_at = s.asked_at AND b.request_id = s.request_id AND b.step_index = s.step_index
    JOIN path_votes w ON w.asked_at = b.asked_at AND w.request_id = b.request_id AND w.step_index = b.step_index
                         AND w.sample_index = b.sample_index
    JOIN path_payloads x ON x.asked_at = b.asked_at AND x.request_id = b.request_id AND x.step_index = b.step_index
                            AND x.sample_index = b.sample_index
    WHERE v.answer IS NOT NULL AND t.fields <> '{}' ORDER BY j.asked_at, j.request_id, b.sample_index
""")
_POLICIES = text("SELECT digest, policy FROM policies")


@dataclass(frozen=True, slots=True)
class ToldVote:
    """A judged vote with the texts of its paths of one turn, by sample, and how its question was put."""

    vote: JudgedVote
    policy: Policy
    ask: str
    fields: Mapping[str, str]
    texts: Mapping[int, str]


class Exports:
    """One snapshot of the record, that nothing is written in. All methods raise LostDependency."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def columns(self, view: str) -> list[tuple[str, str]]:
        """Names and types of a view's columns, as PostgreSQL calls them."""
        return [(name, kind) for name, kind in await self._connection.execute(_COLUMNS, {"view": view})]

    async def rows(self, view: str, since: datetime) -> AsyncIterator[list[dict[str, Any]]]:
        """The rows of a view of requests asked since a time, in batches."""
        if view not in VIEWS:
            raise ValueError(f"expected one of {', '.join(VIEWS)}, got {view}")
        found = await self._connection.stream(text(_ROWS.format(view=view)), {"since": since})
        async for batch in found.mappings().partitions(_BATCH):
            yield [dict(row) for row in batch]

    async def told_votes(self, since: datetime) -> list[ToldVote]:
        """Every judged vote by which a request asked since a time was answered, by time of asking."""
        policies = {
            digest: msgspec.convert(policy, Policy) for digest, policy in await self._connection.execute(_POLICIES)
        }
        of_requests: dict[Any, list[Mapping[Any, Any]]] = defaultdict(list)
        for row in (await self._connection.execute(_VOTES, {"since": since})).mappings():
            of_requests[row["request_id"]].append(row)
        return [_told(rows, policies) for rows in of_requests.values() if rows[0]["policy_digest"] in policies]


@asynccontextmanager
async def exports(dsn: str) -> AsyncIterator[Exports]:
    """The record for export."""
    engine = make_engine(dsn)
    try:
        async with lost_when_away(), engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield Exports(connection)
    finally:
        await engine.dispose()


def _told(rows: Sequence[Mapping[Any, Any]], policies: Mapping[str, Policy]) -> ToldVote:
    first = rows[0]
    ballots = tuple(
        Ballot(
            sample_index=row["sample_index"],
            answer=row["vote"],
            failure=PathFailure(row["failure"]) if row["failure"] else None,
        )
        for row in rows
    )
    reward = None if first["reward"] is None else float(first["reward"])
    vote = JudgedVote(str(first["request_id"]), ballots, first["answer"], reward, first["right_answer"])
    texts = {
        row["sample_index"]: row["text"] for row in rows if row["is_one_turn"] and not row["reasoning"] and row["text"]
    }
    return ToldVote(vote, policies[first["policy_digest"]], first["ask"], first["fields"], texts)
