"""Which request is begun next, and when: the decomposer's door, and what a question waits for behind thousands of others."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest

from conclave.domain.fair_queue import Flow
from conclave.engine.scripted import ScriptedEngine
from conclave.errors import LostDependency, PutBack
from conclave.policies.current import CurrentPolicies
from conclave.runtime.attempts import Dependencies
from conclave.runtime.backlog import Backlog, Behind
from conclave.runtime.record import Tp, output_of
from conclave.runtime.service import Service
from conclave.runtime.work import Handles
from conclave.testing import events as made
from conclave.testing import laws
from conclave.testing.broker import MemoryBroker
from conclave.testing.cluster import Cluster
from conclave.testing.loop import VirtualLoop
from conclave.testing.network import Endpoint
from conclave.testing.processes import SETTINGS
from conclave.testing.simulation import quiet
from schemas import flow
from schemas.events import PathDecoded, PathFailed, PlanMade, ReasoningRequested
from schemas.flow import Topic
from schemas.ids import derived_request_id
from services.decoder.handler import Decoder
from services.decomposer.door import Door
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings

_BATCH, _INTERACTIVE = Flow("batch"), Flow("interactive")


# -- the door alone ---------------------------------------------------------------------------------------------------


class Doorway:
    """A door with room for ten samples, behind which `num_open` are open."""

    def __init__(self) -> None:
        self.num_open, self.is_away = 0, False
        self.door = Door(self._count, lambda: 1.0, lambda _: True, open_samples=10)
        self.begun: list[str] = []

    async def _count(self) -> Behind:
        if self.is_away:
            raise LostDependency("kafka", "gone")
        return Behind(self.num_open, 1)

    async def come(self, name: str, flow: Flow, *, num_samples: int = 5, left_s: float = 600.0) -> bool:
        """A request's way through; True where it had to wait."""
        async with self.door.entry(name, name, flow, left_s=left_s) as entry:
            self.begun.append(name)
            entry.num_samples = num_samples
        return entry.has_waited

    def play(self, script: Callable[[asyncio.TaskGroup], Awaitable[None]]) -> None:
        async def played() -> None:
            following = asyncio.create_task(self.door.follow())
            await asyncio.sleep(1.0)
            async with asyncio.timeout(3600), asyncio.TaskGroup() as tasks:
                await script(tasks)
            following.cancel()

        with quiet():
            VirtualLoop().run_until_complete(played())  # type: ignore[abstract]


def test_with_room_nobody_waits() -> None:
    doorway = Doorway()

    async def script(_: asyncio.TaskGroup) -> None:
        assert not await doorway.come("a", _BATCH)
        assert not await doorway.come("b", _BATCH)

    doorway.play(script)


def test_without_room_the_urgent_go_first_and_one_who_is_late_waits_for_nobody() -> None:
    doorway = Doorway()
    doorway.num_open = 12

    async def script(tasks: asyncio.TaskGroup) -> None:
        for number in range(3):
            tasks.create_task(doorway.come(f"batch {number}", _BATCH))
        await asyncio.sleep(1.0)
        assert doorway.begun == []
        assert not await doorway.come("urgent", _INTERACTIVE)
        doorway.num_open += 5
        tasks.create_task(doorway.come("too much", _INTERACTIVE))
        await asyncio.sleep(1.0)
        assert not await doorway.come("late", _BATCH, left_s=-1.0)
        assert doorway.begun == ["urgent", "late"]
        doorway.num_open = 0
        await asyncio.sleep(5.0)

    doorway.play(script)
    assert sorted(doorway.begun[2:]) == ["batch 0", "batch 1", "batch 2", "too much"]


def test_where_nothing_moves_one_is_let_in_now_and_then() -> None:
    doorway = Doorway()
    doorway.num_open = 1000  # of aborted records, which nobody will ever end

    async def script(tasks: asyncio.TaskGroup) -> None:
        for number in range(10):
            tasks.create_task(doorway.come(str(number), _BATCH, num_samples=0))
        await asyncio.sleep(9.0)
        assert 3 <= len(doorway.begun) <= 4
        for _ in range(20):  # they move: those behind wait for room
            doorway.num_open -= 1
            await asyncio.sleep(1.0)
        assert len(doorway.begun) <= 5
        doorway.num_open = 0

    doorway.play(script)
    assert doorway.begun == [str(number) for number in range(10)]


def test_a_request_that_waits_is_begun_at_its_deadline() -> None:
    doorway = Doorway()
    doorway.num_open = 100
    took_s: list[float] = []

    async def script(tasks: asyncio.TaskGroup) -> None:
        tasks.create_task(_keep_moving(doorway))
        started_s = asyncio.get_running_loop().time()
        assert await doorway.come("a", _BATCH, left_s=7.0)
        took_s.append(asyncio.get_running_loop().time() - started_s)

    doorway.play(script)
    assert took_s[0] == pytest.approx(7.0)


def test_those_that_wait_when_the_service_ends_are_put_back() -> None:
    doorway = Doorway()
    doorway.num_open = 100

    async def script(tasks: asyncio.TaskGroup) -> None:
        waiting = tasks.create_task(_put_back(doorway.come("a", _BATCH)))
        await asyncio.sleep(1.0)
        doorway.door.close()
        assert await waiting
        assert await _put_back(doorway.come("b", _INTERACTIVE))

    doorway.play(script)
    assert doorway.begun == []


async def _keep_moving(doorway: Doorway) -> None:
    for _ in range(20):
        doorway.num_open -= 1
        await asyncio.sleep(1.0)


async def _put_back(coming: Awaitable[bool]) -> bool:
    try:
        await coming
    except PutBack:
        return True
    return False


def test_where_nothing_can_be_counted_requests_go_on_after_a_while() -> None:
    doorway = Doorway()
    doorway.is_away = True

    async def script(_: asyncio.TaskGroup) -> None:
        assert await doorway.come("a", _BATCH)
        assert doorway.door.status()["open_samples"] is None
        doorway.is_away = False
        await doorway.come("b", _BATCH, num_samples=10)
        await asyncio.sleep(2.0)
        assert doorway.door.status()["open_samples"] == 0

    doorway.play(script)
    assert doorway.begun == ["a", "b"]


@pytest.mark.parametrize("seed", range(20))
def test_whoever_comes_goes_and_gives_up_as_a_seed_draws_the_room_is_even_at_the_end(seed: int) -> None:
    rng, doorway = random.Random(seed), Doorway()

    async def come(number: int) -> None:
        flow = Flow(rng.choice(("interactive", "standard", "batch")), rng.choice("ab"))
        await asyncio.sleep(10 * rng.random())
        num_samples, left_s = rng.randrange(8), rng.choice((0.5, 600.0))
        coming = asyncio.create_task(doorway.come(str(number), flow, num_samples=num_samples, left_s=left_s))
        if rng.random() < 0.3:
            await asyncio.sleep(3 * rng.random())
            coming.cancel()
        await asyncio.wait((coming,))

    async def script(tasks: asyncio.TaskGroup) -> None:
        coming = [tasks.create_task(come(number)) for number in range(60)]
        for _ in range(100):
            doorway.num_open = rng.randrange(16)
            await asyncio.sleep(0.2)
        doorway.num_open = 0
        await asyncio.wait(coming)
        await asyncio.sleep(30.0)
        assert doorway.door.status()["requests_waiting"] == {"interactive": 0, "standard": 0, "batch": 0}
        num_more = (
            0  # of one sample each, at once: as many as fit; it is not counted again while half of the room is left
        )
        while not await doorway.come("more", _BATCH, num_samples=1):
            num_more += 1
        assert 5 <= num_more <= 10

    doorway.play(script)


# -- before a pipeline ------------------------------------------------------------------------------------------------

_PATH_S, _MAX_RUNNING, _NUM_SAMPLES, _NUM_PARTITIONS, _READ_AHEAD, _OPEN = 2.0, 64, 4, 4, 256, 192


class Asking:
    """A decomposer and a decoder over four partitions. Paths take two seconds on average, 64 at a time; 256 are read ahead."""

    def __init__(self, *, has_door: bool = True, per_minute: int = 600) -> None:
        self.loop = VirtualLoop()  # type: ignore[abstract]
        topics = {row.topic.value: _NUM_PARTITIONS for row in flow.TOPICS}
        topics |= {flow.dead_letter_topic(topic): 1 for topic in topics}
        self.cluster = Cluster(self.loop, random.Random(0), topics, made.NOW_MS)
        self._own = DecomposerSettings(interactive_per_minute=per_minute)
        self._has_door, self._num_asked = has_door, 0

    def play(self, script: Callable[[], Awaitable[None]]) -> None:
        async def played() -> None:
            backlog = Backlog(
                MemoryBroker(self.cluster, Endpoint("decomposer")),
                "decoder",
                Topic.SAMPLES.value,
                source=Topic.REQUESTS.value,
            )
            door = Door(backlog.count, lambda: 1.0, lambda at: services[0].is_durable(at), open_samples=_OPEN)
            decomposer = Decomposer(self._own, CurrentPolicies("default"), door=door if self._has_door else None)
            decoder = Decoder(ScriptedEngine(latency_ms=1000 * _PATH_S, max_running=_MAX_RUNNING))
            services = [
                self._service("decomposer", 8192, Handles(decomposer, decomposer.request_key, drain=decomposer.drain)),
                self._service("decoder", _READ_AHEAD, Handles(decoder, may_take=decoder.may_take, drain=decoder.drain)),
            ]
            running = [asyncio.create_task(each.run()) for each in services]
            following = asyncio.create_task(door.follow())
            await script()
            for each in services:
                each.stop()
            await asyncio.gather(*running)
            following.cancel()

        with quiet():
            self.loop.run_until_complete(played())

    def _service(self, name: str, max_in_flight: int, work: Handles) -> Service:
        settings = SETTINGS.model_copy(update={"max_in_flight": max_in_flight, "duplicate_window": 10_000})
        broker = MemoryBroker(self.cluster, Endpoint(name))
        return Service(name, settings, work, Dependencies(), broker, clock_ms=lambda: self.cluster.now_ms)

    def ask(self, num_questions: int, priority: str | None = None, **fields: object) -> list[str]:
        """Publishes questions; the ids of the requests."""
        ids: list[str] = []
        for _ in range(num_questions):
            self._num_asked += 1
            ids.append(derived_request_id(self.cluster.now_ms, str(self._num_asked)))
        self.cluster.publish(
            output_of(
                ReasoningRequested(
                    question="2+2?",
                    request_id=each,
                    policy="fixed-8",
                    max_samples=_NUM_SAMPLES,
                    priority=priority,
                    **{"deadline_s": 80_000.0, **fields},  # type: ignore[arg-type]
                ),
                service="test",
                event_id=each,
                parent=None,
                now_ms=self.cluster.now_ms,
            )
            for each in ids
        )
        return ids

    def plans(self) -> dict[str, PlanMade]:
        """The plans that were made, by request."""
        found = laws.events(self.cluster.records(Topic.STEPS.value))
        return {each.request_id: each for each in found if isinstance(each, PlanMade)}

    async def until_ended(self, request_ids: Sequence[str], *, limit_s: float = 600.0) -> float:
        """Virtual seconds until all samples of these requests have ended."""
        began_s, left = self.loop.time(), dict.fromkeys(request_ids, _NUM_SAMPLES)
        read: dict[Tp, int] = {}
        while self.loop.time() - began_s < limit_s:
            for tp in self.cluster.topic(Topic.PATHS.value):
                records, read[tp] = self.cluster.partitions[tp].read(read.get(tp, 0), self.cluster.partitions[tp].end)
                for each in laws.events(records):
                    if isinstance(each, PathDecoded | PathFailed) and each.context.request_id in left:
                        left[each.context.request_id] -= 1
            if not any(left.values()):
                return self.loop.time() - began_s
            await asyncio.sleep(0.5)
        raise AssertionError(f"not decoded within {limit_s:.0f} virtual seconds: {len(left)}")


def _wait_of_a_question(*, has_door: bool = True, priority: str = "interactive") -> float:
    """Virtual seconds that a question takes which is asked two seconds after 250 standard ones."""
    asking, took_s = Asking(has_door=has_door), []

    async def script() -> None:
        asking.ask(250)
        await asyncio.sleep(2.0)
        took_s.append(await asking.until_ended(asking.ask(1, priority)))

    asking.play(script)
    return took_s[0]


def test_a_question_that_somebody_waits_for_overtakes_what_no_decoder_has_read_ahead_yet() -> None:
    everything_s = 250 * _NUM_SAMPLES * _PATH_S / _MAX_RUNNING
    assert _wait_of_a_question(has_door=False) > 0.5 * everything_s
    assert _wait_of_a_question(priority="standard") > 0.7 * everything_s
    # Its own four paths take 4.2 s on average, the longest of four exponentials, and the door a look at most.
    assert _wait_of_a_question() < 0.2 * everything_s


def test_the_decoder_never_runs_dry_before_the_door() -> None:
    asking, took_s = Asking(), []

    async def script() -> None:
        await asyncio.sleep(1.0)
        took_s.append(await asking.until_ended(asking.ask(250)))

    asking.play(script)
    assert took_s[0] < 1.3 * 250 * _NUM_SAMPLES * _PATH_S / _MAX_RUNNING


def test_who_calls_everything_interactive_overtakes_within_its_rate_only() -> None:
    asking = Asking(per_minute=20)
    flood: list[str] = []

    async def script() -> None:
        await asyncio.sleep(1.0)
        flood.extend(asking.ask(100, "interactive"))
        other = asking.ask(1, "interactive", tags={"tenant": "other"})
        await asking.until_ended([*flood, *other])
        assert asking.plans()[other[0]].priority == "interactive"

    asking.play(script)
    plans = [asking.plans()[each] for each in flood]
    lowered = [each for each in plans if each.priority == "standard"]
    assert len(lowered) == 80
    assert all("20 interactive requests" in each.reasons["priority"] for each in lowered)


def test_a_request_whose_deadline_passes_before_the_door_has_its_end_in_time() -> None:
    asking, took_s = Asking(), []

    async def script() -> None:
        asking.ask(300)
        await asyncio.sleep(2.0)
        took_s.append(await asking.until_ended(asking.ask(1, "batch", deadline_s=10.0)))

    asking.play(script)
    assert took_s[0] <= 11.0
