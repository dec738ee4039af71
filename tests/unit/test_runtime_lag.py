"""The lag of who has nothing left to do is 0, whatever markers of transactions end the log."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import REGISTRY

from conclave.domain.recorded import RecordedEvent
from conclave.engine.scripted import ScriptedEngine
from conclave.runtime import metrics
from conclave.runtime.attempts import Dependencies
from conclave.runtime.process import Consumer
from conclave.runtime.record import Output, Tp, output_of
from conclave.runtime.service import Service
from conclave.runtime.sink import Sink
from conclave.runtime.work import Handles
from conclave.testing import events as made
from conclave.testing.broker import MemoryBroker
from conclave.testing.cluster import Cluster
from conclave.testing.loop import VirtualLoop
from conclave.testing.network import Endpoint
from conclave.testing.processes import SETTINGS
from conclave.testing.record import Position
from schemas import flow
from schemas.events import Event, SampleRequested
from services.decoder.handler import Decoder


class Store:
    """A recorder's store that takes what it is given."""

    async def claim(self, wanted: Sequence[Position]) -> dict[Position, int]:
        return dict.fromkeys(wanted, 0)

    async def write(self, batch: Sequence[RecordedEvent], offsets: Mapping[Position, int]) -> int:
        return len(batch)

    async def maintain(self, now_ms: int) -> None: ...


def _of(event: Event, index: int) -> Output:
    return output_of(event, service="test", event_id=f"{index}", parent=None, now_ms=made.NOW_MS)


def _lag_seen(make: Callable[[MemoryBroker], Consumer], events: Sequence[Event], *times_s: float) -> list[float | None]:
    """The lag of the events' topic, so many seconds after they were published in a transaction."""
    loop = VirtualLoop()  # type: ignore[abstract]
    topics = {row.topic.value: 1 for row in flow.TOPICS}
    topics |= {flow.dead_letter_topic(row.topic.value): 1 for row in flow.TOPICS if not row.is_broadcast}
    cluster = Cluster(loop, random.Random(0), topics, made.NOW_MS)
    tp = Tp(flow.topic_of(type(events[0])), 0)
    metrics.LAG.clear()

    async def whole() -> list[float | None]:
        consumer = make(MemoryBroker(cluster, Endpoint("consumer")))
        running = asyncio.create_task(consumer.run())
        while not consumer.is_ready:
            await asyncio.sleep(0.01)
        producer = MemoryBroker(cluster, Endpoint("producer")).transactional_producer("producer")
        await producer.open()
        await producer.begin()
        await producer.send(_of(event, index) for index, event in enumerate(events))
        await producer.commit()
        seen, slept_s = [], 0.0
        for each in times_s:
            await asyncio.sleep(each - slept_s)
            slept_s = each
            seen.append(REGISTRY.get_sample_value("conclave_lag", {"topic": tp.topic, "partition": f"{tp.partition}"}))
        assert cluster.partitions[tp].last_stable == len(events) + 1, "a marker ends the log"
        await producer.close()
        consumer.stop()
        await running
        return seen

    found: list[float | None] = loop.run_until_complete(whole())
    return found


def test_a_service_that_has_done_all_has_no_lag_though_a_marker_ends_the_log() -> None:
    def make(broker: MemoryBroker) -> Service:
        decoder = Decoder(ScriptedEngine(latency_ms=60_000))
        return Service("decoder", SETTINGS, Handles(decoder), Dependencies(), broker)

    context = made.context(deadline_ms=made.NOW_MS * 2)
    samples = [SampleRequested(context=context, sample_index=index, launched=3) for index in range(3)]
    assert _lag_seen(make, samples, 5.0, 3600.0) == [4, 0]


def test_a_recorder_that_has_stored_all_has_no_lag_though_a_marker_ends_the_log() -> None:
    def make(broker: MemoryBroker) -> Sink:
        return Sink("recorder", SETTINGS, Store(), Dependencies(), broker)

    assert _lag_seen(make, [made.answer()] * 3, 30.0) == [0]
