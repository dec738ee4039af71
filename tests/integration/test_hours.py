"""Hours that are added up: at any moment what the rows say, whatever came late, twice, or was taken back."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from conclave.domain.recorded import RecordedEvent
from conclave.store.erasure import erase
from conclave.store.roll_ups import ROLLED, RollUps
from conclave.testing import events as made
from schemas import flow
from schemas.events import Event, FeedbackGiven, RequestFailed
from schemas.experiments import Assignment
from schemas.ids import derived_request_id
from schemas.values import RequestFailure
from tests.record_of_events import NOW_MS, Recorded

HOUR_MS = 3_600_000
VIEWS = ("policy_cost", "arm_votes", "arms_by_day", "sample_ratio")


@pytest.fixture
async def sums(fresh_database: str) -> AsyncIterator[RollUps]:
    sums = RollUps(fresh_database)
    yield sums
    await sums.close()


async def rows(record: Recorded, query: str) -> list[tuple[Any, ...]]:
    async with record.learning._reading() as connection:
        return sorted(map(tuple, (await connection.execute(text(query))).all()), key=repr)


async def check(record: Recorded) -> None:
    """What analysts are told is what the rows say."""
    for name in ROLLED:
        assert await rows(record, f"SELECT * FROM {name}") == await rows(
            record, f"SELECT * FROM rolled.{name}_counted"
        ), name


def happened(rng: random.Random, num_requests: int) -> list[tuple[Event, int]]:
    """What was asked over some hours, and all that came of it, each with when it is recorded; feedback up to a day late."""
    found: list[tuple[Event, int]] = []
    for number in range(num_requests):
        asked_ms = NOW_MS - 20 * HOUR_MS + rng.randrange(6 * HOUR_MS)
        request_id = derived_request_id(asked_ms, f"request {number}")
        arm, policy = rng.choice("ab"), made.plan().policy
        assignment = Assignment(experiment="trial", revision=1, unit=f"user {number % 5}", draw=number)
        plan = replace(made.plan(), request_id=request_id, arm=arm, weights_version=rng.randrange(3), propensity=0.5)
        plan = replace(plan, assignment=assignment if rng.random() < 0.8 else None, policy=policy)
        found.append((plan, asked_ms))
        if rng.random() < 0.8:
            figures: dict[str, Any] = {
                "confidence": rng.random(),
                "elapsed_ms": rng.choice([0.0, rng.random() * 5000]),
                "arm": arm,
            }
            found.append((made.answer(request_id=request_id, tokens_out=rng.randrange(500), **figures), asked_ms + 50))
            found.append((replace(made.verdict(request_id=request_id), arm=arm), asked_ms + 40))
        elif rng.random() < 0.5:
            found.append(
                (RequestFailed(request_id=request_id, failure=RequestFailure.NO_ANSWER, message="m"), asked_ms)
            )
        for place in range(rng.randrange(4)):
            said: dict[str, Any] = {
                "reward": rng.random(),
                "source": rng.choice(["ann", "bob"]),
                "feedback_id": f"f{number}.{place}",
            }
            if place and rng.random() < 0.5:
                said |= {"supersedes": f"f{number}.{place - 1}", "is_withdrawn": rng.random() < 0.5}
            found.append((FeedbackGiven(request_id=request_id, **said), asked_ms + rng.randrange(20 * HOUR_MS)))
    return found


def lying_in_the_log(events: list[tuple[Event, int]]) -> list[RecordedEvent]:
    return [
        RecordedEvent(
            event, f"e{place}", flow.subject_of(event), flow.topic_of(type(event)).value, 0, place, at_ms, None
        )
        for place, (event, at_ms) in enumerate(events)
    ]


def batches(events: list[RecordedEvent], size: int = 25) -> list[list[RecordedEvent]]:
    return [events[start : start + size] for start in range(0, len(events), size)]


async def count_again(record: Recorded) -> None:
    """Marks every hour, as if nothing had been added up."""
    async with record.store._engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO rolled.marks SELECT hour FROM policy_hours UNION SELECT hour FROM arm_hours")
        )


async def told(record: Recorded) -> dict[str, list[tuple[Any, ...]]]:
    return {view: await rows(record, f"SELECT * FROM {view}") for view in VIEWS}


async def test_sums_are_those_of_the_rows_in_any_order_with_redelivery_and_at_any_moment(
    record: Recorded, sums: RollUps
) -> None:
    rng = random.Random(14)
    events = lying_in_the_log(happened(rng, 50))
    rng.shuffle(events)
    for batch in batches([*events, *rng.sample(events, 40)]):
        await record.store.write(batch, {})
        if rng.random() < 0.6:
            await sums.refresh()
        await check(record)
    await sums.refresh()
    assert await rows(record, "SELECT * FROM rolled.marks") == []
    assert len(await rows(record, "SELECT DISTINCT hour FROM rolled.policy_hours")) >= 5
    before = await told(record)
    assert all(before.values())
    await count_again(record)
    assert await told(record) == before
    exact = await rows(record, _PERCENTILES)
    assert len(exact) == 3, "two arms, and what failed"
    for _, p50_ms, p95_ms, is_p50_ms, is_p95_ms in exact:
        assert (p50_ms, p95_ms) == pytest.approx((is_p50_ms, is_p95_ms), rel=0.0219, abs=0.002)


_PERCENTILES = """
    SELECT c.arm, c.p50_ms, c.p95_ms, percentile_disc(0.5) WITHIN GROUP (ORDER BY a.elapsed_ms),
           percentile_disc(0.95) WITHIN GROUP (ORDER BY a.elapsed_ms)
    FROM policy_cost c JOIN answers a ON a.arm IS NOT DISTINCT FROM c.arm AND a.policy IS NOT DISTINCT FROM c.policy
    GROUP BY 1, 2, 3
"""


async def test_what_is_written_while_hours_are_added_up_is_added_up_too(record: Recorded, sums: RollUps) -> None:
    events = lying_in_the_log(happened(random.Random(3), 60))
    random.Random(3).shuffle(events)
    others = [RollUps(sums._engine.url.render_as_string(hide_password=False)) for _ in range(2)]
    is_written = asyncio.Event()

    async def write() -> None:
        for batch in batches(events, 10):
            await record.store.write(batch, {})
        is_written.set()

    async def refresh(each: RollUps) -> None:
        while not is_written.is_set():
            await each.refresh()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write(), name="write")
        for each in (sums, *others):
            tasks.create_task(refresh(each), name="refresh")
    for each in others:
        await each.close()
    await check(record)
    await sums.refresh()
    await check(record)


async def test_erasing_changes_no_sum_and_retention_drops_those_of_the_rows_that_it_drops(
    record: Recorded, sums: RollUps, fresh_database: str
) -> None:
    events = lying_in_the_log(happened(random.Random(5), 30))
    await record.store.write(events, {})
    await sums.refresh()
    before = await told(record)
    await erase(fresh_database, sorted({flow.subject_of(each.event).partition("/")[0] for each in events}))
    await count_again(record)
    assert await told(record) == before, "two who said something are still two"
    await sums.refresh()
    await record.store.maintain(NOW_MS + 100 * 24 * HOUR_MS)
    assert await told(record) == {view: [] for view in VIEWS}
    await check(record)
