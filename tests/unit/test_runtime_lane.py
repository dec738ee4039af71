"""When a lane flushes: what took long waits a little for company, and nothing waits where someone waits for it."""

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Mapping
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave.runtime.broker import Broker, GroupConsumer
from conclave.runtime.lane import MAX_FLUSH_RECORDS, Lane
from conclave.runtime.record import Completion, Output, Tp
from conclave.testing.loop import VirtualLoop
from conclave.testing.simulation import quiet

TP = Tp("reasoning.samples", 0)
FLUSH_S = 0.004


class Times:
    """A broker, a consumer and a producer in one, which note when each transaction began and how many offsets it took in."""

    def __init__(self) -> None:
        self.flushes: list[tuple[float, int]] = []
        self._done = 0

    def transactional_producer(self, transactional_id: str) -> "Times":
        return self

    async def committed(self, consumer_group: str, partitions: Collection[Tp] | None = None) -> dict[Tp, Any]:
        return {}

    async def is_member(self) -> bool:
        return True

    def seek(self, tp: Tp, offset: int) -> None: ...

    async def open(self) -> None: ...

    async def begin(self) -> None:
        self._began_s = asyncio.get_running_loop().time()

    async def send(self, outputs: Iterable[Output]) -> None: ...

    async def send_offsets(self, consumer_group: str, offsets: Mapping[Tp, tuple[int, str]]) -> None:
        low = offsets[TP][0]
        self.flushes.append((self._began_s, low - self._done))
        self._done = low

    async def acknowledged(self) -> None:
        await asyncio.sleep(FLUSH_S)

    async def commit(self) -> None: ...

    async def close(self) -> None: ...


class Scene:
    """A lane in virtual time, to which work is handed over as it ends."""

    def __init__(self) -> None:
        self.times = Times()
        self.lane = Lane(
            TP,
            consumer_group="decoder",
            broker=cast(Broker, self.times),
            consumer=cast(GroupConsumer, self.times),
            groups=None,
            prepare=_nothing,
            on_change=lambda: None,
        )
        self._offset = 0

    def ends(self, *, worked_s: float) -> None:
        """One record's work ends now."""
        assert self.lane.tracker.admit(self._offset)
        self.lane.submit(Completion((self._offset,)), worked_s=worked_s)
        self._offset += 1

    def play(self, steps: Coroutine[Any, Any, None]) -> list[tuple[float, int]]:
        """When each transaction began, and the offsets in it."""

        async def run() -> None:
            lane = asyncio.create_task(self.lane.run())
            while not self.lane.is_ready:
                await asyncio.sleep(0)
            await steps
            assert await self.lane.until_flushed(60.0)
            lane.cancel()
            await asyncio.wait({lane})

        with quiet():
            VirtualLoop().run_until_complete(run())  # type: ignore[abstract]
        return [(round(at_s, 6), number) for at_s, number in self.times.flushes]


async def _nothing(_: Lane) -> None: ...


def test_an_instant_is_flushed_at_once() -> None:
    scene = Scene()

    async def steps() -> None:
        scene.ends(worked_s=0.0)
        await asyncio.sleep(1.0)
        scene.ends(worked_s=0.0)
        await asyncio.sleep(1.0)

    assert scene.play(steps()) == [(0.0, 1), (1.0, 1)]


def test_paths_of_two_seconds_that_end_within_forty_milliseconds_share_a_transaction() -> None:
    scene = Scene()

    async def steps() -> None:
        for _ in range(4):
            scene.ends(worked_s=2.0)
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)

    assert scene.play(steps()) == [(0.04, 4)]


def test_nothing_waits_longer_than_fifty_milliseconds_however_long_it_took() -> None:
    scene = Scene()

    async def steps() -> None:
        scene.ends(worked_s=3_600.0)
        await asyncio.sleep(1.0)

    assert scene.play(steps()) == [(0.05, 1)]


def test_an_instant_takes_along_what_waits() -> None:
    scene = Scene()

    async def steps() -> None:
        scene.ends(worked_s=2.0)
        await asyncio.sleep(0.01)
        scene.ends(worked_s=0.0)
        await asyncio.sleep(1.0)

    assert scene.play(steps()) == [(0.01, 2)]


def test_whoever_waits_for_a_flush_waits_for_no_company() -> None:
    scene = Scene()

    async def steps() -> None:
        scene.ends(worked_s=10.0)
        assert await scene.lane.until_flushed(5.0)
        assert asyncio.get_running_loop().time() == pytest.approx(FLUSH_S)

    assert scene.play(steps()) == [(0.0, 1)]


def test_a_full_transaction_waits_for_nobody() -> None:
    scene = Scene()

    async def steps() -> None:
        for _ in range(MAX_FLUSH_RECORDS):
            scene.ends(worked_s=10.0)
        await asyncio.sleep(0.001)
        assert scene.lane.has_unflushed
        await asyncio.sleep(FLUSH_S)
        assert not scene.lane.has_unflushed

    assert scene.play(steps()) == [(0.0, MAX_FLUSH_RECORDS)]


def test_a_lane_that_must_be_opened_again_is_so_at_once() -> None:
    scene = Scene()

    async def steps() -> None:
        scene.ends(worked_s=10.0)
        await asyncio.sleep(0.001)
        scene.lane.reopen()
        await asyncio.sleep(0.001)
        assert scene.lane.is_ready

    scene.play(steps())


@given(st.lists(st.tuples(st.floats(0.0, 0.1), st.floats(0.0, 10.0)), min_size=1, max_size=30))
@settings(max_examples=60)
def test_everything_begins_to_be_flushed_within_its_share_or_behind_the_flush_before(ends) -> None:  # type: ignore[no-untyped-def]
    scene, due = Scene(), []

    async def steps() -> None:
        for gap_s, worked_s in ends:
            await asyncio.sleep(gap_s)
            scene.ends(worked_s=worked_s)
            due.append(asyncio.get_running_loop().time() + min(0.05, 0.02 * worked_s))
        await asyncio.sleep(1.0)

    begun = [at_s for at_s, number in scene.play(steps()) for _ in range(number)]
    assert len(begun) == len(ends)
    assert all(at_s <= limit_s + FLUSH_S + 1e-6 for at_s, limit_s in zip(begun, due, strict=True))
