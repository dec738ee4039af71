"""A stop has one deadline for all of it, whatever hangs: running work, flush, connections, the group, a store."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence

import pytest

from conclave.domain.recorded import RecordedEvent
from conclave.engine.scripted import ScriptedEngine
from conclave.runtime import broker
from conclave.runtime.attempts import Dependencies
from conclave.runtime.process import Consumer
from conclave.runtime.record import output_of
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings
from conclave.runtime.sink import Sink
from conclave.runtime.stopping import stopping
from conclave.runtime.work import Handles
from conclave.testing import events as made
from conclave.testing.broker import MemoryBroker
from conclave.testing.cluster import Cluster
from conclave.testing.consuming import MemoryConsumer
from conclave.testing.loop import VirtualLoop
from conclave.testing.network import Endpoint
from conclave.testing.processes import SETTINGS
from conclave.testing.producing import MemoryTransactionalProducer
from conclave.testing.record import Position
from schemas import flow
from schemas.events import SampleRequested
from services.decoder.handler import Decoder

_NEVER_S = 3_600.0


class Hangs:
    """What of a stop takes for ever, or as long as it may."""

    flush = close = leave = store = False


class HangingConsumer(MemoryConsumer):
    """Leaves its group as slowly as it may."""

    hangs: Hangs

    async def stop(self, limit_s: float | None = None) -> None:
        """Takes all of its limit, 10 s where there is none, as aiokafka's does without a broker."""
        if self.hangs.leave:
            await asyncio.sleep(10.0 if limit_s is None else limit_s)
        await super().stop(0.0 if self.hangs.leave else limit_s)


class HangingProducer(MemoryTransactionalProducer):
    """Commits never, and closes as slowly as it may."""

    hangs: Hangs

    async def commit(self) -> None:
        """Takes for ever."""
        if self.hangs.flush:
            await asyncio.sleep(_NEVER_S)
        await super().commit()

    async def close(self, limit_s: float | None = None) -> None:
        """Takes all of its limit, 5 s where there is none."""
        if self.hangs.close:
            await asyncio.sleep(5.0 if limit_s is None else limit_s)
        await super().close(limit_s)


class HangingBroker(MemoryBroker):
    """A broker whose every answer may be waited for in vain."""

    hangs: Hangs

    def group_consumer(
        self,
        consumer_group: str,
        client_id: str,
        *,
        session_timeout_ms: int,
        max_poll_interval_ms: int,
        instance_id: str | None = None,
    ) -> broker.GroupConsumer:
        """One that hangs."""
        consumer = HangingConsumer(
            self, consumer_group, session_timeout_ms / 1000, max_poll_interval_ms / 1000, instance_id
        )
        consumer.hangs = self.hangs
        return consumer

    def transactional_producer(self, transactional_id: str) -> broker.TransactionalProducer:
        """One that hangs."""
        producer = HangingProducer(self, transactional_id)
        producer.hangs = self.hangs
        return producer


class Store:
    """A recorder's store, which may be waited for in vain."""

    def __init__(self, hangs: Hangs) -> None:
        self._hangs = hangs

    async def claim(self, wanted: Sequence[Position]) -> dict[Position, int]:
        """From the start."""
        return dict.fromkeys(wanted, 0)

    async def write(self, batch: Sequence[RecordedEvent], offsets: Mapping[Position, int]) -> int:
        """Takes for ever."""
        if self._hangs.store:
            await asyncio.sleep(_NEVER_S)
        return len(batch)

    async def maintain(self, now_ms: int) -> None:
        """Nothing to do."""


class Stopped:
    """A process that is stopped after a second of work, in virtual time; and how long the stop took."""

    def __init__(self, drain_s: float) -> None:
        self.hangs = Hangs()
        self._loop = VirtualLoop()  # type: ignore[abstract]
        topics = {row.topic.value: 2 for row in flow.TOPICS}
        topics |= {flow.dead_letter_topic(row.topic.value): 1 for row in flow.TOPICS if not row.is_broadcast}
        self._cluster = Cluster(self._loop, random.Random(0), topics, made.NOW_MS)
        self._settings = SETTINGS.model_copy(update={"drain_s": drain_s})

    def decoder(self, *, path_s: float) -> float:
        """Seconds that a decoder takes to stop whose paths take so long."""
        decoder = Decoder(ScriptedEngine(latency_ms=1000 * path_s))
        work = Handles(decoder, may_take=decoder.may_take, drain=decoder.drain)
        return self._run(lambda settings, near: Service("decoder", settings, work, Dependencies(), near))

    def recorder(self) -> float:
        """Seconds that a recorder takes to stop."""
        return self._run(lambda settings, near: Sink("recorder", settings, Store(self.hangs), Dependencies(), near))

    def _run(self, compose: Callable[[RuntimeSettings, HangingBroker], Consumer]) -> float:
        near = HangingBroker(self._cluster, Endpoint("stopped"))
        near.hangs = self.hangs
        took_s: float = self._loop.run_until_complete(self._whole(compose(self._settings, near)))
        return took_s

    async def _whole(self, consumer: Consumer) -> float:
        running = asyncio.create_task(consumer.run())
        while not consumer.is_ready:
            await asyncio.sleep(0.01)
        self._cluster.publish(
            output_of(sample, service="test", event_id=f"{at}", parent=None, now_ms=made.NOW_MS)
            for at, sample in enumerate(
                SampleRequested(context=made.context(deadline_ms=made.NOW_MS * 2), sample_index=index, launched=8)
                for index in range(8)
            )
        )
        await asyncio.sleep(1.0)
        clock = asyncio.get_running_loop().time
        began_s = clock()
        consumer.stop()
        await running
        return clock() - began_s


@pytest.mark.parametrize("drain_s", [0.0, 1.0, 4.0, 15.0, 300.0])
@pytest.mark.parametrize("path_s", [0.3, _NEVER_S])
@pytest.mark.parametrize("hanging", [(), ("flush",), ("close",), ("leave",), ("flush", "close", "leave")])
def test_a_service_has_stopped_by_its_deadline_whatever_hangs(
    drain_s: float, path_s: float, hanging: tuple[str, ...]
) -> None:
    stopped = Stopped(drain_s)
    for each in hanging:
        setattr(stopped.hangs, each, True)
    took_s = stopped.decoder(path_s=path_s)
    assert took_s <= max(1.0, drain_s) + 0.01
    if not hanging and path_s < 1.0 < drain_s:
        assert took_s < 3.0, "what ends early is not waited for"


@pytest.mark.parametrize("drain_s", [1.0, 15.0])
@pytest.mark.parametrize("hanging", [(), ("store",), ("leave",), ("store", "leave")])
def test_a_sink_has_stopped_by_its_deadline_whatever_hangs(drain_s: float, hanging: tuple[str, ...]) -> None:
    stopped = Stopped(drain_s)
    for each in hanging:
        setattr(stopped.hangs, each, True)
    took_s = stopped.recorder()
    assert took_s <= drain_s + 0.01
    if not hanging:
        assert took_s < 1.0


@pytest.mark.parametrize(("drain_s", "cut_at"), [(0.0, 0.5), (1.0, 0.5), (8.0, 4.0), (15.0, 10.0), (600.0, 595.0)])
def test_a_stop_has_its_moments_in_order_and_ends_when_it_should(drain_s: float, cut_at: float) -> None:
    times = stopping(drain_s, now=100.0)
    assert times.cut_at == pytest.approx(100.0 + cut_at)
    assert times.cut_at < times.ended_by < times.flushed_by < times.closed_by < times.ends_at
    assert times.ends_at == pytest.approx(100.0 + max(drain_s, 1.0))
