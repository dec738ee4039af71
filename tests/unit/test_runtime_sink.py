"""When the recorder's consumer writes: at once what comes alone, together what comes in quick succession or all at once."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from uuid import uuid4

from conclave.domain.recorded import RecordedEvent
from conclave.runtime.attempts import Dependencies
from conclave.runtime.pace import Pace
from conclave.runtime.record import output_of
from conclave.runtime.sink import Sink
from conclave.testing import events as made
from conclave.testing.broker import MemoryBroker
from conclave.testing.cluster import Cluster
from conclave.testing.loop import VirtualLoop
from conclave.testing.network import Endpoint
from conclave.testing.processes import SETTINGS
from conclave.testing.record import Position
from conclave.testing.simulation import quiet
from schemas import flow

_BETWEEN_S = 0.1


class Recording:
    """A recorder's consumer in virtual time, and what each write of it held, by when."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()  # type: ignore[abstract]
        topics = {row.topic.value: 1 for row in flow.TOPICS}
        self.cluster = Cluster(self.loop, random.Random(0), topics, made.NOW_MS)
        self.writes: list[tuple[float, int]] = []

    async def claim(self, wanted: Sequence[Position]) -> dict[Position, int]:
        return dict.fromkeys(wanted, 0)

    async def write(self, batch: Sequence[RecordedEvent], offsets: Mapping[Position, int]) -> int:
        self.writes.append((self.loop.time(), len(batch)))
        return len(batch)

    async def maintain(self, now_ms: int) -> None:
        return

    def publish(self, num_records: int) -> None:
        self.cluster.publish(
            output_of(made.answer(), service="test", event_id=f"{uuid4()}", parent=None, now_ms=made.NOW_MS)
            for _ in range(num_records)
        )

    def run(self, play: Callable[[Sink], Awaitable[None]]) -> None:
        async def whole() -> None:
            broker = MemoryBroker(self.cluster, Endpoint("recorder"))
            pace = Pace(between_writes_s=_BETWEEN_S)
            sink = Sink("recorder", SETTINGS, self, Dependencies(), broker, batch=40, pace=pace)
            running = asyncio.create_task(sink.run())
            while not sink.is_ready:
                await asyncio.sleep(0.01)
            await play(sink)
            sink.stop()
            await running

        with quiet():
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


def test_a_stop_waits_for_no_company() -> None:
    recording = Recording()
    ended: list[float] = []

    async def play(sink: Sink) -> None:
        recording.publish(1)
        await asyncio.sleep(0.02)
        ended.append(recording.loop.time())

    recording.run(play)
    assert recording.loop.time() - ended[0] < 0.5
