"""Simulated service processes: the real services, put together as their composition roots do, on a broker in memory."""

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

from msgspec.structs import replace as replace_fields

from conclave.engine.scripted import ScriptedEngine
from conclave.policies import PolicySet, Problem
from conclave.policies.current import CurrentPolicies
from conclave.policies.reading import Read
from conclave.prompts import PromptSet
from conclave.routes.current import CurrentRouter
from conclave.runtime.attempts import Dependencies
from conclave.runtime.backlog import Backlog
from conclave.runtime.broadcast import BroadcastReader
from conclave.runtime.broker import Broker
from conclave.runtime.pace import Pace
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings
from conclave.runtime.sink import Sink
from conclave.runtime.work import Handles, Joins, Work
from conclave.testing.broker import MemoryBroker
from conclave.testing.cluster import Cluster
from conclave.testing.loop import PROCESS, VirtualLoop
from conclave.testing.network import Endpoint
from conclave.testing.recollection import MemoryRecollection
from conclave.testing.record import Database, MemoryStore
from conclave.testing.unsteady import UnsteadyHandler, UnsteadyJoiner
from conclave.testing.world import CALLING_POLICIES, MemoryLedger, World, declared, tools_of
from schemas import flow
from schemas.flow import Topic
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.decoder.handler import Decoder
from services.decomposer.door import Door
from services.decomposer.handler import Decomposer
from services.decomposer.memory import Limits, RecordedMemory
from services.decomposer.settings import DecomposerSettings
from services.tools.handler import ToolCaller
from services.voter.joiner import Voter
from services.voter.settings import VoterSettings

SETTINGS = RuntimeSettings(
    bootstrap_servers="in memory",
    session_timeout_ms=1000,
    max_poll_interval_ms=20_000,
    drain_s=1.0,
    max_in_flight=16,
    duplicate_window=100,
    retry_backoff_s=0.1,
)
_PACE = Pace(idle_poll_ms=1000, tick_s=1.0)  # what is looked for is not how soon a look comes
_VOTER = VoterSettings(voter_grace_s=2.0, voter_orphan_s=3600.0)
_AGGREGATOR = AggregatorSettings(aggregator_grace_s=5.0, aggregator_orphan_s=7200.0)
_DECOMPOSER = DecomposerSettings()


class _PoliciesInChunks(CurrentPolicies):
    """The policies that ship and those whose steps call tools with an effect, with paths that are handed on after so many tokens of
    a turn; 0: as they ship."""

    def __init__(self, chunk_tokens: int) -> None:
        self._chunk_tokens = chunk_tokens
        super().__init__(_DECOMPOSER.default_policy, CALLING_POLICIES)

    def _load(self, prompt_sets: Mapping[str, PromptSet]) -> tuple[PolicySet, list[Problem]]:
        found, problems = super()._load(prompt_sets)
        return PolicySet({key: self._in_chunks(each) for key, each in found.rows.items()}), problems

    def _in_chunks(self, each: Read) -> Read:
        asks = {name: replace_fields(ask, chunk_tokens=self._chunk_tokens) for name, ask in each.policy.asks.items()}
        return replace(each, policy=replace_fields(each.policy, asks=asks))


@cache
def _policies(chunk_tokens: int) -> CurrentPolicies:
    """The policies of all decomposers; read once, as they do not change."""
    with declared():
        return _PoliciesInChunks(chunk_tokens)


@dataclass(eq=False, slots=True)
class Process:
    """One incarnation of a service's process."""

    service: str
    endpoint: Endpoint
    consumer: Service | Sink
    instance_id: str = ""
    reader: BroadcastReader | None = None
    beside: tuple[Callable[[], Coroutine[None, None, None]], ...] = ()  # what else runs in it
    task: "asyncio.Task[None] | None" = None
    is_frozen: bool = False
    is_stopping: bool = False
    skew_ms: int = 0

    @property
    def is_ready(self) -> bool:
        """What its /ready would say, but for what is away: nobody here asks Kafka every few seconds whether it is back."""
        return self.consumer.is_ready and (self.reader is None or self.reader.is_caught_up)


@dataclass
class Processes:
    """All simulated processes that live. `on_death` is told of one that ended by itself."""

    loop: VirtualLoop
    rng: random.Random
    cluster: Cluster
    database: Database
    on_death: Callable[[Process, BaseException], None]
    settings: RuntimeSettings = SETTINGS
    engine_latency_ms: float = 60.0
    failed: set[str] = field(default_factory=set)  # groups whose joiner has failed
    failing: float = 0.0  # how often a handler or joiner fails
    recall: Literal["off", "exact", "gist"] = "off"  # which questions are given remembered answers
    num_behind: int = 0  # rows of the database that a memory does not see yet
    has_instances: bool = False  # a process that is started takes over the membership of one that is gone
    max_running: int = 8  # of each decoder's engine; what waits for it is put back when it stops
    open_samples: int | None = None  # for each decoder, before requests wait their turn; None: there is no door
    chunk_tokens: int = 0  # of a turn, after which paths are handed on; 0: not before their end
    world: World | None = None  # what the tools change, where the service `tools` runs
    is_routed: bool = False  # requests that name no policy go through the router that ships
    alive: dict[str, Process] = field(default_factory=dict)
    _number: int = 0

    def of(self, service: str) -> list[Process]:
        """The processes of one service."""
        return [process for process in self.alive.values() if process.service == service]

    def start(self, service: str) -> Process:
        """One more process of a service."""
        self._number += 1
        endpoint = Endpoint(f"{service}-{self._number}")
        instance_id = self._free_instance(service) if self.has_instances else ""
        process = self._compose(service, endpoint, self.settings.model_copy(update={"instance_id": instance_id}))
        process.instance_id = instance_id
        endpoint.kill = lambda: self.kill(process)
        self.alive[endpoint.name] = process
        token = PROCESS.set(endpoint.name)
        process.task = self.loop.create_task(self._live(process), name=endpoint.name)
        PROCESS.reset(token)
        return process

    def _free_instance(self, service: str) -> str:
        """The first id of a replica that no living process of the service has."""
        taken = {process.instance_id for process in self.of(service)}
        return next(each for number in itertools.count() if (each := f"{service}-{number}") not in taken)

    def kill(self, process: Process) -> None:
        """Ends a process as kill -9 does: nothing that it still does has an effect."""
        if self.alive.pop(process.endpoint.name, None) is None:
            return
        process.endpoint.cut()
        self.thaw(process)
        if process.task is not None:
            process.task.cancel()

    def stop(self, process: Process) -> None:
        """Has it drain and end, as SIGTERM does."""
        process.is_stopping = True
        process.consumer.stop()

    def freeze(self, process: Process) -> None:
        """Stops its code where it is, as SIGSTOP does."""
        process.is_frozen = True
        self.loop.freeze(process.endpoint.name)

    def thaw(self, process: Process) -> None:
        """Has it go on."""
        process.is_frozen = False
        self.loop.thaw(process.endpoint.name)

    async def _live(self, process: Process) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(process.reader.run(), name="broadcast") if process.reader else None
                beside = [tasks.create_task(each(), name="beside") for each in process.beside]
                await process.consumer.run()
                for task in (reader, *beside):
                    if task is not None:
                        task.cancel()
        except Exception as error:  # noqa: BLE001  (whatever ends a process is for the laws to judge)
            if not process.endpoint.is_cut:
                self.on_death(process, error)
        finally:
            process.endpoint.cut()
            self.alive.pop(process.endpoint.name, None)

    def _compose(self, service: str, endpoint: Endpoint, settings: RuntimeSettings) -> Process:
        broker: Broker = MemoryBroker(self.cluster, endpoint)
        dependencies = Dependencies()
        process: Process

        def clock_ms() -> int:
            return self.cluster.now_ms + process.skew_ms

        if service == "recorder":
            store = MemoryStore(self.database, endpoint)
            process = Process(
                service,
                endpoint,
                Sink(service, settings, store, dependencies, broker, clock_ms=clock_ms, batch=50, pace=_PACE),
            )
            return process
        memory = self._memory(endpoint, clock_ms) if service == "decomposer" and self.recall != "off" else None
        backlog = Backlog(broker, "decoder", Topic.SAMPLES.value, source=Topic.REQUESTS.value)

        def share() -> float:
            return backlog.share(consumer.partitions)

        is_guarded = service == "decomposer" and self.open_samples is not None
        door = (
            Door(backlog.count, share, lambda at: consumer.is_durable(at), open_samples=self.open_samples or 0)
            if is_guarded
            else None
        )
        work, listener = (
            self._decomposer(memory, door, share) if service == "decomposer" else self._work(service, endpoint)
        )
        if self.failing:
            work = self._unsteady(work)
        rng = random.Random(self.rng.getrandbits(32))
        consumer = Service(service, settings, work, dependencies, broker, clock_ms=clock_ms, rng=rng, pace=_PACE)
        process = Process(service, endpoint, consumer)
        process.beside = tuple(each.follow for each in (memory, door) if each is not None)
        broadcasts = [topic.value for topic in flow.service_row(service).broadcasts]
        if broadcasts and listener is not None:
            process.reader = BroadcastReader(broker, broadcasts, listener, dependencies)
        return process

    def _unsteady(self, work: Work) -> Work:
        match work:
            case Handles(handler=handler):
                return replace(work, handler=UnsteadyHandler(handler, self.rng, self.failing))
            case Joins(joiner=joiner):
                return Joins(UnsteadyJoiner(joiner, self.rng, self.failing, self.failed))

    def _memory(self, endpoint: Endpoint, clock_ms: Callable[[], int]) -> RecordedMemory:
        source = MemoryRecollection(self.database, endpoint, num_behind=self.num_behind)
        return RecordedMemory(source, Limits(wait_s=1.0), clock_ms=clock_ms)

    def _decomposer(
        self, memory: RecordedMemory | None, door: Door | None, share: Callable[[], float]
    ) -> tuple[Work, None]:
        own = _DECOMPOSER.model_copy(update={"recall": self.recall, "interactive_per_minute": 6})
        router = (
            CurrentRouter("effort", policies=lambda: _policies(self.chunk_tokens).policies) if self.is_routed else None
        )
        decomposer = Decomposer(own, _policies(self.chunk_tokens), router, memory, door=door, share=share)
        return Handles(decomposer, request_key=decomposer.request_key, drain=decomposer.drain), None

    def _work(self, service: str, endpoint: Endpoint) -> tuple[Work, Decoder | None]:
        match service:
            case "tools":
                assert self.world is not None, "there is nothing to call"
                return Handles(ToolCaller(tools_of(self.world, endpoint), MemoryLedger(self.database, endpoint))), None
            case "decoder":
                decoder = Decoder(ScriptedEngine(latency_ms=self.engine_latency_ms, max_running=self.max_running))
                return Handles(
                    decoder, may_take=decoder.may_take, drain=decoder.drain, hand_on=decoder.hand_on
                ), decoder
            case "voter":
                return Joins(Voter(_VOTER)), None
            case "aggregator":
                return Joins(Aggregator(_AGGREGATOR)), None
        raise ValueError(service)
