"""The review queue as reviewers work at it: what is open, who has taken what, and what they have said.

A claim is a lease: nobody else is given the same answer beyond the number of reviewers that is wanted, until it ends. A verdict is
feedback and comes through its topic, so it is in the record a moment later; a claim that was judged holds until then.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from conclave.store.connection import lost_when_away, make_engine
from conclave.store.rows import asked_at

REASONS = ("disliked", "low margin", "flipped", "at random")
_LOCK = 0x72657669  # "revi"
_UNTIL_RECORDED_S = 3600.0
_SKIPPED_S = 7 * 86_400.0

_NUM_LATEST = 20_000
_NUM_CANDIDATES = 200  # that are looked at for a claim: more are hardly ever in others' hands
_ITEM = "q.request_id, q.asked_at, q.question, q.answer, q.reasons, q.num_reviews, q.policy, q.margin"
# The queue is asked for one answer after the other, the latest first, until there are enough: as a whole it is joined of the whole
# record. OFFSET 0 keeps PostgreSQL from doing that all the same.
_OPEN = text(f"""
    WITH latest AS MATERIALIZED (
        SELECT asked_at, request_id FROM answers WHERE asked_at >= :since AND failure IS NULL
        ORDER BY asked_at DESC, request_id DESC LIMIT :num_latest)
    SELECT {_ITEM} FROM latest l CROSS JOIN LATERAL (
        SELECT * FROM review_queue r WHERE r.asked_at = l.asked_at AND r.request_id = l.request_id OFFSET 0) q
    WHERE q.num_reviews < :num_reviewers ORDER BY l.asked_at DESC, l.request_id DESC LIMIT :limit
""")
# What others have begun comes first, then reasons in turns (else what is disliked would leave no time for what is drawn at random),
# the newest of each. Taken is what a reviewer has in hand or has judged, whether or not that is recorded yet.
_NEXT = text(f"""
    WITH candidates AS MATERIALIZED (
        SELECT {_ITEM}, t.turn FROM review_queue q CROSS JOIN LATERAL (
            SELECT min((array_position(CAST(:reasons AS text[]), reason) + 3 - CAST(:turn AS int)) % 4) AS turn
            FROM unnest(q.reasons) reason) t
        WHERE q.asked_at >= :since AND q.num_reviews < :num_reviewers
            AND NOT EXISTS (SELECT FROM review_claims c
                            WHERE c.request_id = q.request_id AND c.reviewer = :reviewer AND c.until > now())
            AND NOT EXISTS (SELECT FROM feedback f WHERE f.asked_at = q.asked_at AND f.request_id = q.request_id
                            AND f.rater = 'expert' AND f.source = :reviewer AND f.step_index IS NULL)
        ORDER BY q.num_reviews = 0, t.turn, q.asked_at DESC, q.request_id LIMIT {_NUM_CANDIDATES})
    SELECT q.* FROM candidates q
    WHERE (SELECT count(DISTINCT reviewer) FROM (
               SELECT f.source AS reviewer FROM given_feedback f
               WHERE f.asked_at = q.asked_at AND f.request_id = q.request_id AND f.is_latest AND f.step_index IS NULL
                     AND f.rater = 'expert' AND f.metric = 'reward'
               UNION ALL
               SELECT c.reviewer FROM review_claims c
               WHERE c.request_id = q.request_id AND c.until > now() AND c.state <> 'skipped') t) < :num_reviewers
    ORDER BY q.num_reviews = 0, q.turn, q.asked_at DESC, q.request_id LIMIT 1
""")
_IN_HAND = text("""
    SELECT request_id FROM review_claims WHERE reviewer = :reviewer AND state = 'claimed' AND until > now()
    ORDER BY until DESC LIMIT 1
""")
_ONE = text(f"SELECT {_ITEM} FROM review_queue q WHERE q.asked_at = :asked_at AND q.request_id = :request_id")
_PUT = text("""
    INSERT INTO review_claims (request_id, reviewer, state, until) VALUES (:request_id, :reviewer, :state, now() + :lasting)
    ON CONFLICT (request_id, reviewer) DO UPDATE SET state = excluded.state, until = excluded.until
""")
_FORGET = text("DELETE FROM review_claims WHERE until < now() - interval '1 day'")
_TALLY = text("SELECT tally FROM answer_payloads WHERE asked_at = :asked_at AND request_id = :request_id")
_JUDGEMENTS = text("""
    SELECT f.request_id, f.reward >= 0.5 AS is_right FROM given_feedback f
    WHERE f.asked_at >= :since AND f.is_latest AND f.step_index IS NULL AND f.metric = 'reward' AND f.rater = 'expert'
          AND f.reward IS NOT NULL
    ORDER BY f.asked_at, f.request_id, f.source
""")


@dataclass(frozen=True, slots=True)
class Item:
    """An answer to review, why, and how many experts have. `tally` has the answers of its vote, of a claimed one."""

    request_id: str
    asked_at: datetime
    question: str | None  # None where the request itself is not recorded
    answer: str
    reasons: tuple[str, ...]
    num_reviews: int
    policy: str | None
    margin: float | None
    tally: tuple[tuple[str, int], ...] = ()


class Reviews:
    """See the module's docstring. All methods raise LostDependency while the database is away."""

    def __init__(self, dsn: str) -> None:
        self._engine = make_engine(dsn, statement_timeout_s=30.0)

    async def close(self) -> None:
        """Closes the connections."""
        await self._engine.dispose()

    async def open(
        self, *, since: datetime, num_reviewers: int, limit: int, num_latest: int = _NUM_LATEST
    ) -> list[Item]:
        """Of the latest answers, those that fewer reviewers than wanted have judged, the latest first."""
        values = {"since": since, "num_reviewers": num_reviewers, "limit": limit, "num_latest": num_latest}
        async with lost_when_away(), self._engine.connect() as connection:
            return [_item(row) for row in (await connection.execute(_OPEN, values)).mappings()]

    async def claimed(self, reviewer: str) -> Item | None:
        """What a reviewer has in hand."""
        async with lost_when_away(), self._engine.connect() as connection:
            return await self._claimed(connection, reviewer)

    async def claim(self, reviewer: str, *, since: datetime, num_reviewers: int, lease_s: float) -> Item | None:
        """What a reviewer has in hand, else the next answer for them, theirs for so long; None where nothing is left."""
        async with lost_when_away(), self._engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.execute(_FORGET)
            item = await self._claimed(connection, reviewer)
            if item is None:
                turn = (await connection.execute(text("SELECT count(*) FROM review_claims"))).scalar_one() % len(
                    REASONS
                )
                wanted = {"since": since, "num_reviewers": num_reviewers, "reviewer": reviewer}
                found = await connection.execute(_NEXT, wanted | {"turn": turn, "reasons": list(REASONS)})
                row = found.mappings().first()
                if row is None:
                    return None
                item = _item(row, await _tally(connection, row))
            await self._put(connection, item.request_id, reviewer, "claimed", lease_s)
            return item

    async def judged(self, reviewer: str, request_id: str) -> None:
        """Notes that a reviewer's verdict has been published."""
        await self._note(reviewer, request_id, "judged", _UNTIL_RECORDED_S)

    async def skipped(self, reviewer: str, request_id: str) -> None:
        """Gives back what a reviewer can't judge: they are not asked again for a week."""
        await self._note(reviewer, request_id, "skipped", _SKIPPED_S)

    async def judgements(self, since: datetime) -> list[list[bool]]:
        """Of each answer that experts have judged, whether each of them called it right."""
        found: dict[UUID, list[bool]] = defaultdict(list)
        async with lost_when_away(), self._engine.connect() as connection:
            for request_id, is_right in await connection.execute(_JUDGEMENTS, {"since": since}):
                found[request_id].append(is_right)
        return list(found.values())

    async def _claimed(self, connection: AsyncConnection, reviewer: str) -> Item | None:
        request_id = (await connection.execute(_IN_HAND, {"reviewer": reviewer})).scalar()
        if request_id is None:
            return None
        key = {"request_id": request_id, "asked_at": asked_at(str(request_id))}
        row = (await connection.execute(_ONE, key)).mappings().first()
        return None if row is None else _item(row, await _tally(connection, row))

    async def _note(self, reviewer: str, request_id: str, state: str, lasting_s: float) -> None:
        async with lost_when_away(), self._engine.begin() as connection:
            await self._put(connection, request_id, reviewer, state, lasting_s)

    async def _put(
        self, connection: AsyncConnection, request_id: str, reviewer: str, state: str, lasting_s: float
    ) -> None:
        values = {"request_id": UUID(request_id), "reviewer": reviewer, "state": state}
        await connection.execute(_PUT, values | {"lasting": timedelta(seconds=lasting_s)})


async def _tally(connection: AsyncConnection, row: Mapping[Any, Any]) -> Sequence[Mapping[str, Any]]:
    values = {"asked_at": row["asked_at"], "request_id": row["request_id"]}
    return (await connection.execute(_TALLY, values)).scalar() or ()


def _item(row: Mapping[Any, Any], tally: Sequence[Mapping[str, Any]] = ()) -> Item:
    votes = tuple((str(each["answer"]), int(each["votes"])) for each in tally)
    named = {name: row[name] for name in ("asked_at", "question", "answer", "num_reviews", "policy", "margin")}
    return Item(request_id=str(row["request_id"]), reasons=tuple(row["reasons"]), tally=votes, **named)
