"""The real service on a broker in memory, behind the face of SimulatedLane: what holds of the model is shown of the runtime.

The moves are the same; what the model does at once happens here in virtual time, in whatever order the runtime chooses.
"""

import asyncio
import random
from dataclasses import dataclass, field

from conclave.errors import Rejected, Unbegun
from conclave.runtime import dead_letters
from conclave.runtime.attempts import Dependencies
from conclave.runtime.record import Tp, output_of
from conclave.runtime.service import Service
from conclave.runtime.work import Joins
from conclave.testing import laws, settling
from conclave.testing.broker import MemoryBroker
from conclave.testing.cluster import Cluster
from conclave.testing.lane import SimulatedLane
from conclave.testing.loop import PROCESS, VirtualLoop
from conclave.testing.network import Endpoint
from conclave.testing.processes import SETTINGS
from schemas import flow

_CARRYING = SETTINGS.model_copy(update={"carry_span": 1, "carry_after_s": 0.5})
_SPARE_S = 0.06  # a few requests to the broker and back
_TICK_S = 0.3


@dataclass
class RealLane(SimulatedLane):
    """A lane of `service`, whose one input partition begins with `log`. The clock stands still but for `now_ms`."""

    service: str = "voter"
    seed: int = 0
    _num_published: int = 0
    _num_heard: dict[str, int] = field(default_factory=dict)
    _num_processes: int = 0

    def __post_init__(self) -> None:
        self._loop = VirtualLoop()  # type: ignore[abstract]
        topics = {row.topic.value: 1 for row in flow.TOPICS}
        topics |= {flow.dead_letter_topic(row.topic.value): 1 for row in flow.TOPICS if not row.is_broadcast}
        self._cluster = Cluster(self._loop, random.Random(self.seed), topics)
        self._input = Tp(flow.service_row(self.service).consumes[0].value, 0)
        self._start()

    @property
    def is_settled(self) -> bool:
        """True when every record of the partition has been completed: no group is open."""
        low = settling.committed(self._cluster, self.service, self._input)
        left = self._cluster.partitions[self._input].read(low.low, 1_000)[0]
        return self._num_published == len(self.log) and all(low.covers(record.offset) for record in left)

    @property
    def is_idle(self) -> bool:
        """True when there is nothing to read and nothing to flush."""
        lane = self._running._lanes.of(self._input)
        if self._num_published < len(self.log) or lane is None or not lane.is_admitting:
            return False
        partition = self._cluster.partitions[self._input]
        left = partition.read(lane.tracker.next_offset, 1)[0]
        return not left and not lane.has_unflushed and partition.last_stable == partition.end

    def read(self, num_records: int = 1) -> None:
        """Publishes what is new, and lets the service read."""
        self._pass(_SPARE_S * num_records)

    def tick(self) -> None:
        """Lets the service look at the clock."""
        self._pass(_TICK_S)

    def flush(self) -> None:
        """Lets the service flush."""
        self._pass(_SPARE_S)

    def crash(self) -> None:
        """Kills the service's process, and starts another."""
        self._endpoint.cut()
        self._task.cancel()
        self._start()

    def carry_forward(self, choice: int) -> None:
        """Has the open groups carried: their time has come, and the watermark is held back."""
        self.drain()
        self.now_ms += 500
        self._pass(_TICK_S)
        self.now_ms -= 500

    def drain(self) -> None:
        """Lets time pass until nothing moves."""
        for _ in range(500):
            if self.is_idle:
                return
            self._pass(_SPARE_S)
        raise AssertionError("it never came to rest")

    def close(self) -> None:
        """Ends the service."""
        self._endpoint.cut()
        self._task.cancel()
        self._loop.end()

    def _pass(self, seconds: float) -> None:
        for event in self.log[self._num_published :]:
            number = self._num_published
            output = output_of(event, service="test", event_id=f"in-{number}", parent=None, now_ms=self.now_ms)
            self._cluster.publish([output])
            self._num_published += 1
        self._loop.run(asyncio.sleep(seconds))
        self._hear()

    def _hear(self) -> None:
        """Takes over what the service has published since, and what it could not handle."""
        for row in flow.TOPICS:
            topic = row.topic.value
            if topic != self._input.topic:
                records = self._cluster.records(topic)
                for event in laws.events(records[self._num_heard.get(topic, 0) :]):
                    self.outputs.append(event)
                    self.on_output(event)
                self._num_heard[topic] = len(records)
        letters = self._cluster.records(flow.dead_letter_topic(self._input.topic))
        self.rejections = [_rejection(dead_letters.read(letter)) for letter in letters]

    def _start(self) -> None:
        self._num_processes += 1
        self._endpoint = Endpoint(f"{self.service}-{self._num_processes}")
        self._running = Service(
            self.service,
            _CARRYING,
            Joins(self.joiner),
            Dependencies(),
            MemoryBroker(self._cluster, self._endpoint),
            clock_ms=lambda: self.now_ms,
        )
        token = PROCESS.set(self._endpoint.name)
        self._task = self._loop.create_task(self._running.run(), name=self._endpoint.name)
        PROCESS.reset(token)


def _rejection(letter: dead_letters.DeadLetter) -> Rejected:
    """Why the service gave a record up, as the model says it."""
    kind = Unbegun if letter.reason == dead_letters.Reason.UNBEGUN else Rejected
    return kind(letter.field, "what can be handled", str(letter.value))
