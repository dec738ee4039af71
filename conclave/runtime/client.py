"""A client of the pipeline: publishes, follows and inspects. For the CLI, tests and benchmarks."""

import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from conclave.runtime import dead_letters, letter_log
from conclave.runtime.brokers import Brokers
from conclave.runtime.dead_letters import DeadLetter, LetterPlace
from conclave.runtime.kafka import Admin, LogReader, PlainProducer
from conclave.runtime.record import Output, Record, Tp, output_of
from schemas import codec, flow
from schemas.codec import UnreadableEvent
from schemas.events import Event
from schemas.flow import Topic


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is: records still in the log, and per group how many it has yet to finish."""

    name: str
    partitions: int
    records: int
    lag: Mapping[str, int] = field(default_factory=dict)


class Client:
    """An async context manager over one broker address. Raises LostDependency from every method while it is away."""

    def __init__(self, brokers: Brokers | str) -> None:
        self.brokers = brokers
        self._producer = PlainProducer(brokers)

    async def __aenter__(self) -> "Client":
        await self._producer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._producer.stop()

    async def publish(self, event: Event, *, event_id: str | None = None) -> None:
        """Returns once the broker has `event`, under its key and in its envelope."""
        await self._producer.publish([_output(event, event_id)])

    async def publish_many(self, events: Iterable[Event]) -> None:
        """Returns once the broker has all `events`."""
        await self._producer.publish([_output(event, None) for event in events])

    async def publish_raw(self, outputs: Iterable[Output]) -> None:
        """Returns once the broker has these records, whatever they hold."""
        await self._producer.publish(outputs)

    @asynccontextmanager
    async def follow(self, *topics: Topic, from_end: bool = True) -> AsyncIterator[AsyncIterator[tuple[str, Event]]]:
        """All events of `topics` as (topic, event), from the ends as of entering; what can't be read is left out."""
        reader = LogReader(self.brokers)
        await reader.start()
        try:
            partitions = [tp for topic in topics for tp in await reader.partitions(topic.value)]
            starts = await (reader.end_offsets(partitions) if from_end else reader.begin_offsets(partitions))
            reader.assign(starts)
            yield _events(reader)
        finally:
            await reader.stop()

    async def whole(self, topic: Topic) -> list[Event]:
        """Every event that the log has of a topic up to now, in the order of each partition."""
        reader = LogReader(self.brokers)
        await reader.start()
        try:
            partitions = await reader.partitions(topic.value)
            ends = await reader.end_offsets(partitions)
            reader.assign(await reader.begin_offsets(partitions))
            events: list[Event] = []
            while any([await reader.position(tp) < ends[tp] for tp in partitions]):
                events += _readable(await reader.poll(timeout_ms=200))
            return events
        finally:
            await reader.stop()

    async def topics(self) -> list[TopicState]:
        """Every topic of the pipeline that the broker has."""
        return await topic_states(self.brokers)

    async def dead_letters(self, topic: Topic | None = None, limit: int = 1000) -> list[DeadLetter]:
        """The dead letters of one topic, or of all: the latest `limit`, oldest first."""
        return await letter_log.latest(self.brokers, topic, limit)

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """The dead letter of that id; None where there is none, or none any more. Raises: Rejected for what is no id."""
        return await letter_log.find(self.brokers, LetterPlace.parsed(letter_id))

    async def replay(self, letter: DeadLetter) -> None:
        """Publishes the dead letter to its source topic again, as it was received."""
        await self._producer.publish([dead_letters.replay(letter, uuid.uuid4().hex)])


async def topic_states(brokers: Brokers | str) -> list[TopicState]:
    """Every topic of the pipeline that the broker has. Raises: LostDependency."""
    reader = LogReader(brokers)
    await reader.start()
    try:
        async with Admin(brokers) as admin:
            committed = {
                row.name: await admin.committed(row.name) for row in flow.SERVICES.values() if not row.keeps_offsets
            }
        names = [name for row in flow.TOPICS for name in (row.topic.value, flow.dead_letter_topic(row.topic.value))]
        return [state for name in names if (state := await _state(reader, name, committed)) is not None]
    finally:
        await reader.stop()


def _output(event: Event, event_id: str | None) -> Output:
    return output_of(
        event, service="cli", event_id=event_id or uuid.uuid4().hex, parent=None, now_ms=time.time_ns() // 1_000_000
    )


async def _events(reader: LogReader) -> AsyncIterator[tuple[str, Event]]:
    while True:
        for record in await reader.poll(timeout_ms=500):
            for event in _readable([record]):
                yield record.topic, event


def _readable(records: Iterable[Record]) -> list[Event]:
    events = []
    for record in records:
        try:
            events.append(codec.read(record.topic, record.headers, record.value))
        except UnreadableEvent:
            continue
    return events


async def _state(
    reader: LogReader, name: str, committed: Mapping[str, Mapping[Tp, tuple[int, str]]]
) -> TopicState | None:
    partitions = await reader.partitions(name)
    if not partitions:
        return None
    begins, ends = await reader.begin_offsets(partitions), await reader.end_offsets(partitions)
    lag = {
        group: sum(max(0, ends[tp] - max(begins[tp], offsets[tp][0] if tp in offsets else 0)) for tp in partitions)
        for group, offsets in committed.items()
        if name in {topic.value for topic in flow.service_row(group).consumes}
    }
    return TopicState(name, len(partitions), sum(ends[tp] - begins[tp] for tp in partitions), lag)
