"""What a simulated schedule plays on: every service, broker, database and world, as its seed draws them."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from conclave.runtime.limits import MAX_VALUE_BYTES
from conclave.runtime.record import Output, output_of
from conclave.testing import laws
from conclave.testing.cluster import Cluster
from conclave.testing.laws import Expected
from conclave.testing.loop import VirtualLoop
from conclave.testing.network import LATENCY_S, Network, Request
from conclave.testing.processes import SETTINGS, Process, Processes
from conclave.testing.record import Database
from conclave.testing.settling import Settling
from conclave.testing.unsteady import is_poison
from conclave.testing.watch import Watch
from conclave.testing.world import World
from schemas import flow
from schemas.events import Event
from schemas.flow import Topic

START_MS = 1_795_470_000_000
TROUBLE_S = 1.5  # how long requests and moves come
SETTLE_S = 60.0  # how long everything may take to settle afterwards
TYPES = {
    Topic.REQUESTS: "conclave.ReasoningRequested.v1",
    Topic.SAMPLES: "conclave.SampleRequested.v1",
    Topic.PATHS: "conclave.PathDecoded.v1",
    Topic.STEPS: "conclave.PlanMade.v1",
    Topic.ANSWERS: "conclave.AnswerReached.v1",
    Topic.CONTROL: "conclave.StepClosed.v1",
    Topic.FEEDBACK: "conclave.FeedbackGiven.v1",
    Topic.TOOLS: "conclave.ToolRequested.v1",
}
_SERVICES = ("decomposer", "decoder", "voter", "aggregator", "recorder")
_CALLING_SHARE = 0.15  # of the schedules: the service `tools` runs in them
_RECALL_SHARE = 0.05  # of the schedules; one costs five others
_CHUNKS_SHARE = 0.3  # of the schedules: paths of policies with chunks
_RETENTION_SHARE = 0.1  # of the schedules: the broker deletes what is done
_LARGE_SHARE = 0.1  # of what can't be read: more than a dead letter has room for
_LOOK_S = 0.2  # in virtual time a look costs nothing


@dataclass
class Report:
    """What a schedule came to. `moves` says what befell the services, and when."""

    seed: int
    violations: list[str] = field(default_factory=list)
    moves: list[str] = field(default_factory=list)
    virtual_s: float = 0.0
    num_callbacks: int = 0
    num_records: int = 0
    num_aborted: int = 0
    num_recalled: int = 0
    num_deleted: int = 0

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {len(self.violations)} violations in {self.virtual_s:.1f} virtual seconds"]
        return "\n".join([*lines, *(f"  {move}" for move in self.moves), laws.told(self.violations)])


class Stage:
    """All that takes part in a schedule. What is drawn of a stream of its own leaves all other draws as they were without it."""

    def __init__(self, seed: int) -> None:
        self.loop = VirtualLoop()  # type: ignore[abstract]
        self.rng = random.Random(seed)
        num_partitions = self.rng.choice((1, 1, 1, 2))
        topics = {row.topic.value: 1 if row.is_broadcast else num_partitions for row in flow.TOPICS}
        topics |= {flow.dead_letter_topic(row.topic.value): 1 for row in flow.TOPICS if not row.is_broadcast}
        self.cluster = Cluster(self.loop, self.rng, topics, START_MS)
        # Of a stream of its own each, so that all other draws are what they were without it.
        upkeep = Network(self.loop, random.Random(f"upkeep {seed}"), "postgres")
        upkeep.loss = 0.1
        self.database = Database(Network(self.loop, self.rng, "postgres"), upkeep)
        self.report = Report(seed)
        self.expected = Expected()
        settings = self.rng.choice((SETTINGS, SETTINGS.model_copy(update={"carry_span": 3, "carry_after_s": 0.2})))
        self.processes = Processes(self.loop, self.rng, self.cluster, self.database, self.on_death, settings)
        self.watch = Watch(self.cluster, self.report.violations)
        self.cluster.marker_s = self.rng.choice((0.0, 0.0, 0.0, 2.0))
        self.processes.engine_latency_ms = self.rng.choice((20.0, 60.0, 60.0, 600.0))
        if self.rng.random() < 0.2:
            self.expected.is_unsteady, self.processes.failing = True, self.rng.choice((0.05, 0.5))
        if self.rng.random() < 0.2:
            self.database.refuses = is_poison
        self.recalls = random.Random(f"recall {seed}")
        if self.recalls.random() < _RECALL_SHARE and not self.expected.is_unsteady:
            self.processes.recall = self.recalls.choice(("exact", "gist"))
            self.processes.num_behind = self.recalls.choice((0, 0, 3))
            self.processes.is_routed = self.expected.is_routed = self.recalls.random() < 0.5
        self.sizes = random.Random(f"sizes {seed}")
        self.processes.has_instances = random.Random(f"instances {seed}").random() < 0.5
        self.hurries = random.Random(f"hurries {seed}")
        self.processes.open_samples = self.hurries.choice((None, 2, 8))
        self.talks = random.Random(f"talks {seed}")
        self.ways = random.Random(f"ways {seed}")
        self.calls = random.Random(f"calls {seed}")
        self.processes.world = self.world = World(Network(self.loop, self.calls, "world"))
        self.oddities = random.Random(f"oddities {seed}")
        self.processes.max_running = self.oddities.choice((8, 8, 2))
        self.noises = random.Random(f"noise {seed}")
        self.retentions = random.Random(f"retentions {seed}")
        self.is_deleting = self.retentions.random() < _RETENTION_SHARE
        self.networks = (self.cluster.network, self.database.network, self.world.network)
        self.num_words = 0
        self.calls_tools = self.calls.random() < _CALLING_SHARE
        self.services = (*_SERVICES, "tools") if self.calls_tools else _SERVICES
        self.readable = [topic for topic in TYPES if self.calls_tools or topic is not Topic.TOOLS]
        chunks = random.Random(f"in chunks {seed}")
        self.processes.chunk_tokens = chunks.choice((8, 16)) if chunks.random() < _CHUNKS_SHARE else 0

    def network_of(self, request: Request | None) -> Network:
        """The way that requests of a kind take."""
        match request:
            case Request.CALL:
                return self.world.network
            case Request.CLAIM | Request.WRITE | Request.RECALL | Request.ENTER:
                return self.database.network
            case Request.MAINTAIN:
                return self.database.upkeep
            case _:
                return self.cluster.network

    async def until(self, condition: Callable[[], bool], limit_s: float) -> None:
        """Waits for a condition, for `limit_s` at most."""
        for _ in range(round(limit_s / _LOOK_S)):
            if condition():
                return
            await asyncio.sleep(_LOOK_S)

    async def settle(self, limit_s: float = SETTLE_S) -> None:
        """Waits until nothing is left to do, for `limit_s` at most."""
        await self.until(Settling(self.cluster, self.database).is_over, limit_s)

    def publish(self, event: Event, event_id: str) -> None:
        """As a producer does."""
        now_ms = self.cluster.now_ms
        self.cluster.publish([output_of(event, service="test", event_id=event_id, parent=None, now_ms=now_ms)])

    def publish_bytes(self, value: bytes, *, key: bytes | None, event_id: str, topic: Topic = Topic.REQUESTS) -> None:
        """A record of a topic that says to hold its usual event."""
        headers = (("ce_type", TYPES[topic].encode()), ("ce_id", event_id.encode()))
        self.cluster.publish([Output(topic.value, key, value, headers)])

    def publish_broken(self, topic: Topic, number: int) -> None:
        """A record that nobody can read: a dead letter is expected of it."""
        value = f"broken {number}".encode()
        if self.sizes.random() < _LARGE_SHARE:
            value += b"." * MAX_VALUE_BYTES
        self.expected.broken.setdefault(topic.value, set()).add(value)
        self.publish_bytes(value, key=b"k", event_id=f"p{number}", topic=topic)

    def note(self, text: str) -> None:
        """Notes in the report what befell the services."""
        self.report.moves.append(f"{self.loop.time():7.3f} {text}")

    def any_process(self) -> Process | None:
        """One of those that run and are not stopping."""
        alive = [process for process in self.processes.alive.values() if not process.is_stopping]
        return self.rng.choice(alive) if alive else None

    async def restart(self, service: str) -> None:
        """Starts a process of a service a little later."""
        await asyncio.sleep(0.7 * self.rng.random())
        self.processes.start(service)

    def mend(self) -> None:
        """No more trouble: every service runs, and whatever is frozen goes on."""
        for network in self.networks:
            network.plans.clear()
            network.latency_s = LATENCY_S
        for process in list(self.processes.alive.values()):
            if process.is_frozen:
                self.processes.thaw(process)
        for service in self.services:
            if not any(not process.is_stopping for process in self.processes.of(service)):
                self.processes.start(service)

    def on_death(self, process: Process, error: BaseException) -> None:
        """A process may not end by itself."""
        self.report.violations.append(f"{process.endpoint.name} ended by itself: {_told(error)}")


def _told(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return " and ".join(_told(each) for each in error.exceptions)
    return f"{error!r} at {_place(error)}"


def _place(error: BaseException) -> str:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_qualname}:{traceback.tb_lineno}" if traceback is not None else "?"
