"""When the recorder's consumer writes, and what becomes of what it can't read or its store can't take."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from structlog.typing import EventDict

from conclave.domain.recorded import RecordedEvent
from conclave.errors import LostDependency
from conclave.runtime import dead_letters
from conclave.runtime.attempts import Dependencies
from conclave.runtime.pace import Pace
from conclave.runtime.record import Output, output_of
from conclave.runtime.sink import Sink
from conclave.testing import events as made
from conclave.testing.broker import MemoryBroker
from conclave.testing.cluster import Cluster
from conclave.testing.loop import VirtualLoop
from conclave.testing.network import Endpoint
from conclave.testing.processes import SETTINGS
from conclave.testing.record import Position
from schemas import flow
from schemas.codec import versioned_type
from schemas.events import Event
from schemas.flow import Topic

_BETWEEN_S = 0.1


class Recording:
    """A recorder's consumer in virtual time, and what each write of it held, by when."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()  # type: ignore[abstract]
        topics = {row.topic.value: 1 for row in flow.TOPICS}
        topics |= {flow.dead_letter_topic(row.topic.value): 1 for row in flow.TOPICS if not row.is_broadcast}
        self.cluster = Cluster(self.loop, random.Random(0), topics, made.NOW_MS)
        self.writes: list[tuple[float, int]] = []
        self.dependencies = Dependencies()
        self.refuses: Callable[[Sequence[RecordedEvent]], Exception | None] = lambda batch: None
        self.upkeep: list[Exception] = []  # what becomes of it, the next first
        self.said: list[EventDict] = []  # what was logged
        self._offsets: dict[Position, int] = {}

    async def claim(self, wanted: Sequence[Position]) -> dict[Position, int]:
        return {position: self._offsets.get(position, 0) for position in wanted}

    async def write(self, batch: Sequence[RecordedEvent], offsets: Mapping[Position, int]) -> int:
        if (error := self.refuses(batch)) is not None:
            raise error
        self._offsets |= offsets
        self.writes.append((self.loop.time(), len(batch)))
        return len(batch)

    async def maintain(self, now_ms: int) -> None:
        if self.upkeep:
            raise self.upkeep.pop(0)

    def letters(self, topic: Topic) -> list[dead_letters.DeadLetter]:
        return [dead_letters.read(record) for record in self.cluster.records(flow.dead_letter_topic(topic.value))]

    def publish(self, num_records: int, event: Event | None = None) -> None:
        self.cluster.publish(
            output_of(event or made.answer(), service="test", event_id=f"{uuid4()}", parent=None, now_ms=made.NOW_MS)
            for _ in range(num_records)
        )

    def publish_noise(self, topic: Topic, value: bytes | None) -> None:
        headers = (("ce_type", versioned_type(flow.topic_row(topic).events[0]).encode()), ("ce_id", b"noise"))
        self.cluster.publish([Output(topic.value, b"k", value, headers)])

    def run(self, play: Callable[[Sink], Awaitable[None]]) -> None:
        async def whole() -> None:
            broker = MemoryBroker(self.cluster, Endpoint("recorder"))
            pace = Pace(between_writes_s=_BETWEEN_S)
            sink = Sink("recorder", SETTINGS, self, self.dependencies, broker, batch=40, pace=pace)
            running = asyncio.create_task(sink.run())
            while not sink.is_ready:
                await asyncio.sleep(0.01)
            await play(sink)
            sink.stop()
            await running

        with capture_logs() as self.said:
            self.loop.run_until_complete(whole())


def test_what_comes_alone_is_written_at_once() -> None:
    recording = Recording()

    async def play(sink: Sink) -> None:
        for _ in range(3):
            recording.publish(1)
            await asyncio.sleep(1.0)

    recording.run(play)
    assert [number for _, number in recording.writes] == [1, 1, 1]


def test_what_comes_in_quick_succession_is_written_together() -> None:
    recording = Recording()

    async def play(sink: Sink) -> None:
        for _ in range(50):
            recording.publish(1)
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.0)

    recording.run(play)
    times = [at for at, _ in recording.writes]
    assert sum(number for _, number in recording.writes) == 50
    assert min(later - earlier for earlier, later in pairwise(times)) >= _BETWEEN_S - 1e-6
    assert len(times) <= 12


def test_what_there_is_much_of_is_written_without_a_pause() -> None:
    recording = Recording()

    async def play(sink: Sink) -> None:
        recording.publish(400)
        await asyncio.sleep(10.0)

    recording.run(play)
    assert [number for _, number in recording.writes] == [40] * 10
    assert recording.writes[-1][0] - recording.writes[0][0] < _BETWEEN_S


def test_what_lies_there_and_is_not_stored_is_told_until_the_partition_goes() -> None:
    recording = Recording()
    told: list[float | None] = []
    of = {"topic": Topic.ANSWERS.value, "partition": "0"}

    def lag() -> float | None:
        return REGISTRY.get_sample_value("conclave_lag", of)

    async def play(sink: Sink) -> None:
        recording.refuses = lambda batch: told.append(lag())
        recording.publish(200)
        await asyncio.sleep(10.0)
        told.append(lag())
        await sink._on_revoked(())
        await sink._on_assigned(())
        told.append(lag())

    recording.run(play)
    assert told == [0, 160, 120, 80, 40, 0, None]


def test_a_stop_waits_for_no_company() -> None:
    recording = Recording()
    ended: list[float] = []

    async def play(sink: Sink) -> None:
        recording.publish(1)
        await asyncio.sleep(0.02)
        ended.append(recording.loop.time())

    recording.run(play)
    assert recording.loop.time() - ended[0] < 0.5


def said(recording: Recording, event: str) -> list[EventDict]:
    return [line for line in recording.said if line["event"] == event]


@pytest.mark.parametrize("value", [None, b"noise"], ids=["what compaction leaves", "noise"])
@pytest.mark.parametrize(
    "topic",
    [row.topic for row in flow.TOPICS if row.is_broadcast and row.topic in flow.service_row("recorder").consumes],
)
def test_what_nobody_can_read_of_a_broadcast_topic_holds_nothing_up(topic: Topic, value: bytes | None) -> None:
    recording = Recording()

    async def play(sink: Sink) -> None:
        recording.publish_noise(topic, value)
        recording.publish(3)
        await asyncio.sleep(2.0)

    recording.run(play)
    assert sum(number for _, number in recording.writes) == 3
    assert [line["topic"] for line in said(recording, "record_refused")] == [topic.value]


@pytest.mark.parametrize("topic", [Topic.ANSWERS, Topic.STEPS], ids=["the recorder's", "the aggregator's"])
def test_what_nobody_can_read_is_given_up_by_the_guardian_of_its_topic_alone(topic: Topic) -> None:
    recording = Recording()

    async def play(sink: Sink) -> None:
        recording.publish_noise(topic, b"noise")
        await asyncio.sleep(2.0)

    recording.run(play)
    is_own = flow.topic_row(topic).guardian == "recorder"
    assert [letter.value for letter in recording.letters(topic)] == ([b"noise"] if is_own else [])


def test_what_the_store_refuses_is_a_dead_letter_whoever_guards_its_topic_and_the_log_says_why_without_its_words() -> (
    None
):
    recording = Recording()
    recording.refuses = lambda batch: (
        ValueError('invalid input syntax for type integer: "s3cret"')
        if any(event.topic == Topic.STEPS for event in batch)
        else None
    )

    async def play(sink: Sink) -> None:
        recording.publish(5)
        recording.publish(1, made.plan())
        await asyncio.sleep(3.0)

    recording.run(play)
    assert sum(number for _, number in recording.writes) == 5, "what came with it is written"
    (letter,) = recording.letters(Topic.STEPS)
    assert (letter.service, letter.reason) == ("recorder", dead_letters.Reason.HANDLER)
    assert "s3cret" in letter.error
    (line,) = said(recording, "record_refused")
    assert (line["error"], line["why"]) == ("ValueError", "invalid input syntax for type integer…")


def test_a_store_that_takes_nothing_is_waited_for_and_loses_nothing() -> None:
    recording = Recording()
    full = LostDependency("postgres", "could not extend file: No space left on device (53100)")

    async def play(sink: Sink) -> None:
        recording.refuses = lambda batch: full
        recording.publish(5)
        await asyncio.sleep(3.0)
        assert recording.dependencies.away == {"postgres": full.why}
        recording.refuses = lambda batch: None
        await asyncio.sleep(3.0)
        assert not recording.dependencies.away

    recording.run(play)
    assert sum(number for _, number in recording.writes) == 5
    assert recording.letters(Topic.ANSWERS) == []
    assert len(said(recording, "dependency_lost")) == 1, "that it can be claimed says nothing of writing"


def test_upkeep_that_fails_is_told_and_tried_again_and_ends_nothing() -> None:
    recording = Recording()
    recording.upkeep = [RuntimeError('partition "p" is pending detach'), LostDependency("postgres", "a deadlock")]

    async def play(sink: Sink) -> None:
        recording.publish(1)
        await asyncio.sleep(60.0)
        assert not recording.dependencies.away, "what is written is written"
        assert sink.is_ready

    recording.run(play)
    assert recording.upkeep == [], "it was tried again"
    assert [line["why"] for line in said(recording, "upkeep_failed")] == ["partition … is pending detach", "a deadlock"]
    assert len(recording.writes) == 1
