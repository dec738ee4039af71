"""Answers that people review, on a real server: leases, judgements, and how many of each."""

import asyncio
import itertools
from datetime import UTC, datetime
from hashlib import md5

from sqlalchemy import text

from conclave.store.erasure import erase
from conclave.store.reviews import Reviews
from conclave.testing import events as made
from schemas.events import ReasoningRequested
from schemas.experiments import Rater
from schemas.ids import derived_request_id
from tests.record_of_events import NOW_MS, Recorded


async def _answered(record: Recorded, number: int, *, margin: float = 1.0) -> str:
    """The id of a recorded request with its answer; the later its number, the later it was asked."""
    ids = (str(derived_request_id(NOW_MS - 60_000 + number, f"to review {place}")) for place in itertools.count())
    request_id = next(
        each for each in ids if int(md5(each.encode()).hexdigest()[:4], 16) >= 65536 // 50
    )  # not at random
    await record.put(ReasoningRequested(question=f"question {number}?", request_id=request_id))
    await record.put(made.answer(request_id=request_id, margin=margin))
    return request_id


async def test_an_answer_is_leased_to_as_many_reviewers_as_are_wanted_and_judged_once_by_each(
    record: Recorded, fresh_database: str
) -> None:
    first, second = [await _answered(record, number, margin=0.05) for number in (1, 2)]
    reviews = Reviews(fresh_database)
    since = datetime.fromtimestamp(NOW_MS / 1000 - 3600, UTC)

    async def take(reviewer: str, lease_s: float = 60.0) -> str | None:
        item = await reviews.claim(reviewer, since=since, num_reviewers=2, lease_s=lease_s)
        return None if item is None else item.request_id

    assert await reviews.claimed("ann") is None
    assert [await take(each) for each in ("ann", "ann", "bob")] == [second, second, second]  # the newest first
    assert await take("cid") == first  # two have the other one in hand
    item = await reviews.claimed("ann")
    assert item is not None
    assert (item.question, item.answer, item.reasons) == ("question 2?", "4", ("low margin",))
    assert item.tally == (("4", 4),)
    await reviews.skipped("bob", second)
    assert [await take("dan"), await take("bob")] == [second, first]
    await reviews.judged("ann", second)  # published, and not recorded yet: ann is not asked again, and it counts
    assert [await take("ann"), await take("eve")] == [None, None]
    await record.judged(second, 1.0, rater=Rater.EXPERT, source="ann")
    assert [
        (each.request_id, each.num_reviews) for each in await reviews.open(since=since, num_reviewers=2, limit=9)
    ] == [
        (second, 1),
        (first, 0),
    ]
    assert [each.request_id for each in await reviews.open(since=since, num_reviewers=2, limit=9, num_latest=1)] == [
        second
    ]
    async with record.learning._reading() as connection:
        queue = text("SELECT request_id FROM review_queue ORDER BY asked_at DESC, request_id DESC")
        whole = [str(each) for each in (await connection.execute(queue)).scalars()]
    assert [each.request_id for each in await reviews.open(since=since, num_reviewers=2, limit=9)] == whole
    await record.judged(second, 0.0, rater=Rater.EXPERT, source="dan")
    assert [each.request_id for each in await reviews.open(since=since, num_reviewers=2, limit=9)] == [first]
    assert await reviews.judgements(since) == [[True, False]]
    await reviews.close()


async def test_a_lease_that_has_ended_is_another_s(record: Recorded, fresh_database: str) -> None:
    request_id = await _answered(record, 1, margin=0.05)
    reviews, since = Reviews(fresh_database), datetime.fromtimestamp(NOW_MS / 1000 - 3600, UTC)
    for reviewer, lease_s in (("ann", -1.0), ("bob", 60.0)):
        item = await reviews.claim(reviewer, since=since, num_reviewers=1, lease_s=lease_s)
        assert item is not None
        assert item.request_id == request_id
    assert await reviews.claimed("ann") is None
    assert await reviews.claim("ann", since=since, num_reviewers=1, lease_s=60.0) is None
    await erase(fresh_database, [request_id])
    assert await reviews.open(since=since, num_reviewers=1, limit=9) == []
    await reviews.close()


async def test_several_reviewers_who_ask_at_once_get_no_answer_more_often_than_wanted(
    record: Recorded, fresh_database: str
) -> None:
    asked = [await _answered(record, number, margin=0.05) for number in range(3)]
    reviews, since = Reviews(fresh_database), datetime.fromtimestamp(NOW_MS / 1000 - 3600, UTC)
    claims = (reviews.claim(f"r{number}", since=since, num_reviewers=1, lease_s=60.0) for number in range(5))
    found = [item.request_id for item in await asyncio.gather(*claims) if item is not None]
    assert sorted(found) == sorted(asked)
    await reviews.close()
