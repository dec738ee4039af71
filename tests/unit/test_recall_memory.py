"""What is kept of answers in a process and found in the record, what is given, and that nobody waits for it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from conclave.domain.recall import Remembered, is_worth_giving
from conclave.domain.recall.front import EVICTIONS, Front
from conclave.errors import LostDependency
from conclave.testing import events as made
from schemas.values import Outcome
from services.decomposer.memory import Limits, RecordedMemory
from tests.remembered import FIRST, FOUND, wanted


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"outcome": Outcome.TIE}, False),
        ({"confidence": 0.3}, False),
        ({"is_disliked": True}, False),
        ({"answered_ms": made.NOW_MS - 3_600_000}, False),
    ],
)
def test_only_a_clear_young_answer_that_nobody_calls_wrong_is_given(changes: dict[str, object], expected: bool) -> None:
    assert is_worth_giving(replace(FOUND, **changes), wanted(), made.NOW_MS) is expected


@pytest.mark.parametrize("eviction", EVICTIONS)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 40), st.sampled_from("pgd")), max_size=80))
@settings(max_examples=40)
def test_a_front_never_outgrows_its_bytes_and_gives_back_what_was_put(
    eviction: str, moves: list[tuple[int, int, str]]
) -> None:
    front: Front[int] = Front(100, eviction)
    last: dict[str, tuple[int, int]] = {}
    for number, (key, size, move) in enumerate(moves):
        if move == "p":
            front.put(str(key), number, num_bytes=size, cost=float(size % 7))
            last[str(key)] = number, size
        elif move == "g":
            found = front.get(str(key))
            assert found is None or found == last[str(key)][0]
        else:
            front.drop(str(key))
            assert front.get(str(key)) is None
        assert front.num_bytes == sum(last[each][1] for each in front) <= 100


def evicted(eviction: str) -> str:
    """Which of a (old, used often), b (dear), c (cheap, used last) goes when there is no room for d."""
    front: Front[str] = Front(30, eviction)
    front.put("a", "a", num_bytes=10, cost=5.0)
    for _ in range(3):
        front.get("a")
    front.put("b", "b", num_bytes=10, cost=100.0)
    front.put("c", "c", num_bytes=10, cost=1.0)
    front.put("d", "d", num_bytes=10, cost=50.0)
    (gone,) = set("abcd") - set(front)
    return gone


@pytest.mark.parametrize(("eviction", "gone"), [("fifo", "a"), ("lru", "a"), ("lfu", "b"), ("gdsf", "c")])
def test_an_eviction_lets_the_least_dear_go(eviction: str, gone: str) -> None:
    assert evicted(eviction) == gone


def test_what_is_liked_stays_longer() -> None:
    front: Front[str] = Front(20, "gdsf")
    front.put("liked", "", num_bytes=10, cost=10.0, liking=2.0)
    front.put("disliked", "", num_bytes=10, cost=10.0, liking=0.2)
    front.put("new", "", num_bytes=10, cost=10.0)
    assert set(front) == {"liked", "new"}


@dataclass
class Record:
    """A record that answers, late or never."""

    answers: dict[str, Remembered] = field(default_factory=lambda: {"k": FOUND})
    against: set[str] = field(default_factory=set)
    takes_s: float = 0.0
    error: Exception | None = None
    asked: list[tuple[str, ...]] = field(default_factory=list)

    async def newest(self, tokens: Sequence[str], *, by_gist: bool, oldest_ms: int) -> dict[str, Remembered]:
        self.asked.append(tuple(tokens))
        if self.error is not None:
            raise self.error
        await asyncio.sleep(self.takes_s)
        return {token: self.answers[token] for token in tokens if token in self.answers}

    async def spoken_against(self, since_ms: int) -> set[str]:
        if self.error is not None:
            raise self.error
        return self.against


@asynccontextmanager
async def memory_of(record: Record, **limits: object) -> AsyncIterator[RecordedMemory]:
    memory = RecordedMemory(record, Limits(**({"patience_s": 0.05} | limits)))  # type: ignore[arg-type]
    following = asyncio.create_task(memory.follow())
    await asyncio.sleep(0)
    try:
        yield memory
    finally:
        following.cancel()
        await asyncio.wait({following})


async def test_what_is_recorded_is_given_and_then_kept_in_the_process() -> None:
    record = Record()
    async with memory_of(record) as memory:
        assert await memory.recall(wanted(), made.NOW_MS) == FOUND
        assert await memory.recall(wanted(), made.NOW_MS) == FOUND
        assert await memory.recall(wanted("gist of k", at="b", is_worded_alike=True), made.NOW_MS) is None
        assert record.asked == [("k",), ("gist of k",)]
        assert memory.status()["recall"]["front"] == 1  # type: ignore[index]


async def test_those_who_want_something_together_ask_together() -> None:
    record = Record()
    async with memory_of(record, wait_s=0.0) as memory:
        found = await asyncio.gather(*(memory.recall(wanted(key, at=key), made.NOW_MS) for key in ("k", "k", "l", "m")))
        assert found == [FOUND, FOUND, None, None]
        assert record.asked == [("k", "l", "m")]


async def test_a_record_that_is_away_is_a_miss_at_once_and_is_left_alone_for_a_while() -> None:
    record = Record(error=LostDependency("postgres", "gone"))
    async with memory_of(record, wait_s=0.0) as memory:
        for number in range(5):
            assert await memory.recall(wanted(str(number)), made.NOW_MS) is None
        assert len(record.asked) <= 1
        assert "gone" in memory.status()["recall"]["away"]  # type: ignore[index]


async def test_a_record_that_is_slow_costs_a_request_its_patience_and_no_more() -> None:
    record = Record(takes_s=0.5)
    async with memory_of(record, patience_s=0.01, wait_s=0.0) as memory:
        start_s = asyncio.get_running_loop().time()
        for number in range(20):
            assert await memory.recall(wanted(str(number)), made.NOW_MS) is None
        assert asyncio.get_running_loop().time() - start_s < 0.4


async def test_nothing_is_remembered_while_nobody_follows() -> None:
    assert await RecordedMemory(Record(), Limits(patience_s=0.01)).recall(wanted(), made.NOW_MS) is None


async def test_what_feedback_calls_wrong_leaves_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.decomposer.memory._CHECKED_EVERY_S", 0.01)
    record = Record()
    async with memory_of(record, wait_s=0.0) as memory:
        assert await memory.recall(wanted(), made.NOW_MS) == FOUND
        record.against.add(FIRST)
        record.answers["k"] = replace(FOUND, is_disliked=True)
        async with asyncio.timeout(5):
            while memory.status()["recall"]["front"]:  # type: ignore[index]
                await asyncio.sleep(0.005)
        assert await memory.recall(wanted(), made.NOW_MS) is None


async def test_the_front_is_not_believed_while_feedback_can_not_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.decomposer.memory._HOLDS_S", 0.0)
    record = Record()
    async with memory_of(record, wait_s=0.0) as memory:
        await memory.recall(wanted(), made.NOW_MS)
        await memory.recall(wanted(), made.NOW_MS)
        assert record.asked == [("k",), ("k",)]


async def test_an_equal_question_in_flight_is_waited_for_and_answered_by_one_computation() -> None:
    record = Record(answers={})
    async with memory_of(record, wait_s=5.0) as memory:
        assert await memory.recall(wanted(at="first"), made.NOW_MS - 6000) is None
        second = asyncio.create_task(memory.recall(wanted(at="second"), made.NOW_MS))
        third = asyncio.create_task(memory.recall(wanted(at="third", max_age_s=1e6), made.NOW_MS))
        assert await memory.recall(wanted(at="first"), made.NOW_MS) is None  # read again, it waits for nobody
        record.answers["k"] = FOUND
        assert [await second, await third] == [FOUND, FOUND]


async def test_an_equal_question_that_comes_to_nothing_is_waited_for_no_longer_than_that() -> None:
    record = Record(answers={})
    async with memory_of(record, wait_s=0.15) as memory:
        assert await memory.recall(wanted(at="first"), made.NOW_MS) is None
        assert await memory.recall(wanted(at="second"), made.NOW_MS) is None
        record.answers["k"] = replace(FOUND, outcome=Outcome.TIE, answered_ms=made.NOW_MS + 9)
        assert await memory.recall(wanted(at="third"), made.NOW_MS) is None
        async with asyncio.timeout(0.14):  # a tie is no answer to wait for
            assert await memory.recall(wanted(at="fourth", deadline_s=600.0), made.NOW_MS) is None
