"""Every service on a broker and a database in memory, with all that can befall them drawn from a seed.

    report = simulate(seed=7)          # one schedule: some requests, some moves, then everything is mended
    assert not report.violations, report

A schedule is the same for the same seed and the same code: what fails can be run again.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import structlog

from conclave.runtime import dead_letters
from conclave.runtime.limits import MAX_VALUE_BYTES
from conclave.runtime.record import Output, output_of
from conclave.testing import laws
from conclave.testing.cluster import Cluster
from conclave.testing.laws import Expected
from conclave.testing.loop import Standstill, VirtualLoop
from conclave.testing.network import LATENCY_S, Fate, Network, Plan, Request
from conclave.testing.processes import SETTINGS, Process, Processes
from conclave.testing.record import Database
from conclave.testing.unsteady import is_poison
from conclave.testing.world import World
from schemas import flow
from schemas.events import ApprovalGiven, Event, PlanMade, ReasoningRequested, RequestCancelled
from schemas.flow import Topic
from schemas.ids import derived_request_id

START_MS = 1_795_470_000_000
_SERVICES = ("decomposer", "decoder", "voter", "aggregator", "recorder")
_TROUBLE_S = 1.5  # how long requests and moves come
_POLICIES = (
    "default", "single", "early-stopping", "ahead-3", "contemplation", "escalate", "least-to-most", "self-ask", "tree",
    "tree-checked", "tree-sampled", "select", "rounds", "reflexion", "tool", "quick",
)  # fmt: skip
_TYPES = {
    Topic.REQUESTS: "conclave.ReasoningRequested.v1",
    Topic.SAMPLES: "conclave.SampleRequested.v1",
    Topic.PATHS: "conclave.PathDecoded.v1",
    Topic.STEPS: "conclave.PlanMade.v1",
    Topic.ANSWERS: "conclave.AnswerReached.v1",
    Topic.CONTROL: "conclave.StepClosed.v1",
    Topic.FEEDBACK: "conclave.FeedbackGiven.v1",
    Topic.TOOLS: "conclave.ToolRequested.v1",
}
_CALLING_POLICIES = ("simulated-call", "simulated-keyed-call", "simulated-approval")
_CALLING_SHARE = 0.15  # of the schedules: the service `tools` runs in them
_CANCELLED_SHARE = 0.05  # of the requests
_ODDITY_SHARE = 0.05  # of the schedules, for each
_RECALL_SHARE = 0.05  # of the schedules; one costs five others
_CHUNKS_SHARE = 0.3  # of the schedules: paths of policies with chunks
_LARGE_SHARE = 0.1  # of what can't be read: more than a dead letter has room for
_LOOK_S = 0.2  # in virtual time a look costs nothing
_SETTLE_S = 60.0  # how long everything may take to settle afterwards
_WITHOUT_DATABASE_S = 5.0  # the same while the recorder cannot: time enough for the others

_OF_KAFKA = (Request.OPEN, Request.PRODUCE, Request.OFFSETS, Request.COMMIT, Request.COMMITTED, Request.HEARTBEAT)
_OF_KAFKA_MORE = (*_OF_KAFKA, Request.JOIN, Request.METADATA, Request.COMMIT, Request.COMMIT, Request.OFFSETS)
_LOSSES = (Fate.LOST_REQUEST, Fate.LOST_REPLY)
_CUTS = (Fate.KILLED_BEFORE, Fate.KILLED_AFTER)


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

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {len(self.violations)} violations in {self.virtual_s:.1f} virtual seconds"]
        return "\n".join([*lines, *(f"  {move}" for move in self.moves), laws.told(self.violations)])


def simulate(
    seed: int, *, num_moves: int | None = None, only: Collection[str] = (), plans: Collection[Plan] = ()
) -> Report:
    """Plays the schedule of a seed.

    `num_moves` and `only` say how many moves there are and which, instead of the seed; `plans` befall the broker,
    the database or the world, whichever is asked for such a thing.
    """
    with quiet():
        simulation = Simulation(seed, num_moves=num_moves, only=only)
        for plan in plans:
            simulation.network_of(plan.request).plans.append(plan)
        return simulation.run()


@contextmanager
def quiet() -> Iterator[None]:
    """Logs nothing inside: a simulated service would say what it always says, thousands of times."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


class Simulation:
    """One schedule. `moves` and their weights are the table at its foot."""

    def __init__(self, seed: int, *, num_moves: int | None = None, only: Collection[str] = ()) -> None:
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
        self.processes = Processes(self.loop, self.rng, self.cluster, self.database, self._on_death, settings)
        self.watch = laws.Watch(self.cluster, self.report.violations)
        self.cluster.marker_s = self.rng.choice((0.0, 0.0, 0.0, 2.0))
        self.processes.engine_latency_ms = self.rng.choice((20.0, 60.0, 60.0, 600.0))
        if self.rng.random() < 0.2:
            self.expected.is_unsteady, self.processes.failing = True, self.rng.choice((0.05, 0.5))
        if self.rng.random() < 0.2:
            self.database.refuses = is_poison
        self._recalls = random.Random(f"recall {seed}")
        if self._recalls.random() < _RECALL_SHARE and not self.expected.is_unsteady:
            self.processes.recall = self._recalls.choice(("exact", "gist"))
            self.processes.num_behind = self._recalls.choice((0, 0, 3))
            self.processes.is_routed = self.expected.is_routed = self._recalls.random() < 0.5
        self._sizes = random.Random(f"sizes {seed}")
        self.processes.has_instances = random.Random(f"instances {seed}").random() < 0.5
        self._hurries = random.Random(f"hurries {seed}")
        self.processes.open_samples = self._hurries.choice((None, 2, 8))
        self._talks = random.Random(f"talks {seed}")
        self._calls = random.Random(f"calls {seed}")
        self.processes.world = self.world = World(Network(self.loop, self._calls, "world"))
        self._oddities = random.Random(f"oddities {seed}")
        self.processes.max_running = self._oddities.choice((8, 8, 2))
        self._networks = (self.cluster.network, self.database.network, self.world.network)
        self._number_of_words = 0
        self._calls_tools = self._calls.random() < _CALLING_SHARE
        self._services = (*_SERVICES, "tools") if self._calls_tools else _SERVICES
        self._readable = [topic for topic in _TYPES if self._calls_tools or topic is not Topic.TOOLS]
        chunks = random.Random(f"in chunks {seed}")
        self.processes.chunk_tokens = chunks.choice((8, 16)) if chunks.random() < _CHUNKS_SHARE else 0
        self._num_moves = self.rng.randint(0, 8) if num_moves is None else num_moves
        self._moves = [row for row in MOVES if not only or row[0].__name__ in only]

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

    def run(self) -> Report:
        """Plays the schedule and judges what is left."""
        try:
            self.loop.run_until_complete(self._play())
        except Standstill as error:
            self.report.violations.append(str(error))
        report = self.report
        report.violations += laws.violations(self.cluster, self.database, self.expected, self.world)
        report.violations += [f"left lying about: {complaint}" for complaint in self.loop.complaints]
        report.moves += [f"{at:7.3f} {who} {request}: {fate}" for at, who, request, fate in self._befallen()]
        report.moves.sort()
        report.virtual_s, report.num_callbacks = self.loop.time(), self.loop.num_callbacks
        if self.processes.recall != "off":
            report.num_recalled = sum(
                isinstance(event, PlanMade) and event.recalled_from is not None
                for event in laws.events(self.cluster.records(Topic.STEPS.value))
            )
        report.num_aborted = sum(partition.num_aborted for partition in self.cluster.partitions.values())
        report.num_records = sum(partition.end for partition in self.cluster.partitions.values())
        return report

    def _befallen(self) -> Sequence[tuple[float, str, Request, Fate]]:
        return [each for network in self._networks for each in network.befallen]

    async def _play(self) -> None:
        for service in self._services:
            for _ in range(self.rng.choice((1, 1, 1, 2))):
                self.processes.start(service)
        async with asyncio.TaskGroup() as tasks:
            for oddity in ODDITIES:
                if self._oddities.random() < _ODDITY_SHARE:
                    tasks.create_task(oddity(self))
            for number in range(self.rng.randint(1, 3)):
                tasks.create_task(self._ask(number, self.rng.random() * _TROUBLE_S, tasks))
            for _ in range(self._num_moves):
                tasks.create_task(self._move(self.rng.random() * _TROUBLE_S))
        self._mend()
        await self._settle()
        if self.processes.recall != "off":
            await self._ask_again()
        if self._oddities.random() < _ODDITY_SHARE:
            await self._replay_letters()
        # A day later: a group that should be over and is not speaks now.
        for process in self.processes.alive.values():
            process.skew_ms += 86_400_000
        await asyncio.sleep(0.5)
        await self._settle()
        await self._until(lambda: all(process.is_ready for process in self.processes.alive.values()), _SETTLE_S)
        self.report.violations += [
            f"{name} is not ready" for name, process in self.processes.alive.items() if not process.is_ready
        ]
        if self.rng.random() < 0.2:
            for process in list(self.processes.alive.values()):
                self.processes.stop(process)
            await self._until(lambda: not self.processes.alive, 30.0)

    async def _settle(self, limit_s: float = _SETTLE_S) -> None:
        await self._until(lambda: laws.is_settled(self.cluster, self.database), limit_s)

    async def _until(self, condition: Callable[[], bool], limit_s: float) -> None:
        for _ in range(round(limit_s / _LOOK_S)):
            if condition():
                return
            await asyncio.sleep(_LOOK_S)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _ask(self, number: int, delay_s: float, tasks: asyncio.TaskGroup) -> None:
        """Publishes a request: mostly as it should be, some twice, some without an id, some that nobody can take."""
        await asyncio.sleep(delay_s)
        rng, now_ms = self.rng, self.cluster.now_ms
        match rng.randrange(10):
            case 0:
                self._publish_broken(Topic.REQUESTS if rng.random() < 0.5 else rng.choice(self._readable), number)
            case 1 if not self.expected.is_unsteady:
                question = f"And without an id, {number}?"
                self.expected.questions.add(question)
                value = msgspec.json.encode({"question": question, "max_samples": 2})
                self._publish_bytes(value, key=None, event_id=f"p{number}")
            case kind:
                request = ReasoningRequested(
                    question=f"How much is {number}?",
                    request_id=derived_request_id(now_ms, str(number), str(self.report.seed)),
                    policy=self._policy(rng.choice(_POLICIES)),
                    max_samples=rng.randint(1, 6),
                    deadline_s=rng.choice((5.0, 600.0, 600.0)),
                    priority=self._hurries.choice((None, None, "interactive", "batch")),
                    tags=self._talks.choice(({}, {"conversation": "it"}, {"conversation": "it", "tenant": "a"})),
                )
                self.expected.requests.add(str(request.request_id))
                self._publish(request, f"p{number}")
                for word in self._words(str(request.request_id), now_ms + round(1000 * request.deadline_s)):
                    tasks.create_task(self._say(word))
                if kind < 5:
                    await asyncio.sleep(rng.random())
                    self._publish(request, f"p{number}again")

    def _policy(self, shipped: str) -> str:
        """One that calls a tool with an effect, in half of the requests of a schedule in which there are any."""
        return self._calls.choice(_CALLING_POLICIES) if self._calls_tools and self._calls.random() < 0.5 else shipped

    def _words(self, request_id: str, until_ms: int) -> list[Event]:
        """What people say of a request while it is thought about: that it is cancelled; yes and no to a call, and maybe both."""
        words: list[Event] = []
        if self._calls.random() < _CANCELLED_SHARE:
            words.append(RequestCancelled(request_id=request_id, until_ms=until_ms))
        for _ in range(self._calls.choice((0, 1, 1, 2)) if self._calls_tools else 0):
            is_approved = self._calls.random() < 0.7
            words.append(
                ApprovalGiven(
                    request_id=request_id, step_index=0, is_approved=is_approved, given_by="ann", until_ms=until_ms
                )
            )
        return words

    async def _say(self, word: Event) -> None:
        await asyncio.sleep(3.0 * self._calls.random())
        self._number_of_words += 1
        self._publish(word, f"word{self._number_of_words}")

    async def _ask_again(self) -> None:
        """Publishes what is known by now, in other words, by two at once; the database may be away or slow meanwhile."""
        recalls, now_ms = self._recalls, self.cluster.now_ms
        self.database.network.is_away = recalls.random() < 0.1
        self.database.network.latency_s = recalls.choice((LATENCY_S, LATENCY_S, 0.2))
        for number in range(6):
            request = ReasoningRequested(
                question=f"{recalls.choice(('', 'Please tell me: '))}how much is {recalls.choice('112')} + 1?",
                request_id=derived_request_id(now_ms, f"again {number}", str(self.report.seed)),
                policy=recalls.choice(("default", "default", "contemplation", None)),
                tags={"tenant": recalls.choice("aaab")},
                max_age_s=recalls.choice((None, None, None, 0.0, 600.0)),
            )
            self.expected.requests.add(str(request.request_id))
            self._publish(request, f"again{number}")
            if number % 2:
                await self._settle(_WITHOUT_DATABASE_S if self.database.network.is_away else _SETTLE_S)
        self.database.network.is_away, self.database.network.latency_s = False, LATENCY_S
        await self._settle()

    def _publish(self, event: Event, event_id: str) -> None:
        now_ms = self.cluster.now_ms
        self.cluster.publish([output_of(event, service="test", event_id=event_id, parent=None, now_ms=now_ms)])

    def _publish_bytes(self, value: bytes, *, key: bytes | None, event_id: str, topic: Topic = Topic.REQUESTS) -> None:
        headers = (("ce_type", _TYPES[topic].encode()), ("ce_id", event_id.encode()))
        self.cluster.publish([Output(topic.value, key, value, headers)])

    def _publish_broken(self, topic: Topic, number: int) -> None:
        value = f"broken {number}".encode()
        if self._sizes.random() < _LARGE_SHARE:
            value += b"." * MAX_VALUE_BYTES
        self.expected.broken.setdefault(topic.value, set()).add(value)
        self._publish_bytes(value, key=b"k", event_id=f"p{number}", topic=topic)

    async def _replay_letters(self) -> None:
        """An operator has what could not be read tried once more: it comes back as another dead letter."""
        for topic in self._readable:
            if topic is Topic.REQUESTS:
                continue  # tried again it is a request of its own, which ends once more
            for number, record in enumerate(self.cluster.records(flow.dead_letter_topic(topic.value))):
                letter = dead_letters.read(record)
                if letter.value not in self.expected.broken.get(topic.value, ()):
                    continue
                self.cluster.publish([dead_letters.replay(letter, f"token {number}")])
        await self._settle()

    # -- oddities -----------------------------------------------------------------------------------------------------

    async def noise(self) -> None:
        """A broadcast topic holds what nobody can read, and what compaction leaves of a record."""
        await asyncio.sleep(_TROUBLE_S * self._oddities.random())
        for number, value in enumerate((None, b"noise")):
            headers = (("ce_type", _TYPES[Topic.CONTROL].encode()), ("ce_id", f"noise{number}".encode()))
            self.cluster.publish([Output(Topic.CONTROL.value, b"k", value, headers)])

    async def locked_out(self) -> None:
        """A process that starts does not get into its group for longer than it tries."""
        service = self._oddities.choice(self._services)
        deaf_to = self.cluster.network.deaf_to
        name = next((each.endpoint.name for each in self.processes.of(service)), "")
        self._note(f"{name} is locked out")
        deaf_to.add((name, Request.JOIN))
        await asyncio.sleep(10.5 + self._oddities.random())
        deaf_to.discard((name, Request.JOIN))

    async def late_letters(self) -> None:
        """The recorder's way to publish a dead letter is lost once."""
        self.cluster.network.plans.append(Plan(Fate.LOST_REQUEST, Request.METADATA, "recorder"))

    # -- moves --------------------------------------------------------------------------------------------------------

    async def _move(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        move = self.rng.choices([move for move, _ in self._moves], [weight for _, weight in self._moves])[0]
        await move(self)

    def _note(self, text: str) -> None:
        self.report.moves.append(f"{self.loop.time():7.3f} {text}")

    def _any(self) -> Process | None:
        alive = [process for process in self.processes.alive.values() if not process.is_stopping]
        return self.rng.choice(alive) if alive else None

    async def kill(self) -> None:
        """A process ends at once, and starts again."""
        process = self._any()
        if process is not None:
            self._note(f"kill {process.endpoint.name}")
            self.processes.kill(process)
            await self._restart(process.service)

    async def stop(self) -> None:
        """A process drains, and starts again."""
        process = self._any()
        if process is not None and not process.is_frozen:
            self._note(f"stop {process.endpoint.name}")
            self.processes.stop(process)
            await self._until(lambda: process.endpoint.is_cut, 30.0)
            await self._restart(process.service)

    async def add(self) -> None:
        """A service gets one more process."""
        service = self.rng.choice(self._services)
        self._note(f"add {self.processes.start(service).endpoint.name}")

    async def freeze(self) -> None:
        """A process stands still, for less than its session or for longer, and goes on."""
        process = self._any()
        if process is not None and not process.is_frozen:
            duration_s = self.rng.choice((0.2, 0.6, 1.5, 2.5)) * (0.5 + self.rng.random())
            self._note(f"freeze {process.endpoint.name} for {duration_s:.3f} s")
            self.processes.freeze(process)
            await asyncio.sleep(duration_s)
            if not process.endpoint.is_cut:
                self.processes.thaw(process)

    async def relieve(self) -> None:
        """A process stands still past its session, another does its work meanwhile and ends, and the first goes on."""
        process = self._any()
        if process is None or process.is_frozen:
            return
        self._note(f"relieve {process.endpoint.name}")
        self.processes.freeze(process)
        relief = self.processes.start(process.service)
        await asyncio.sleep(1.2 + self.rng.random())
        if not process.endpoint.is_cut:
            self.processes.thaw(process)
        await asyncio.sleep(0.5 * self.rng.random())
        self.processes.kill(relief)

    async def rebalance(self) -> None:
        """A group deals its partitions out anew."""
        group = self.rng.choice(self._services)
        self._note(f"rebalance {group}")
        self.cluster.group(group).rebalance()

    async def put_out(self) -> None:
        """A member loses its place though it lives."""
        group = self.cluster.group(self.rng.choice(self._services))
        if group.members:
            member_id = self.rng.choice(sorted(group.members))
            self._note(f"put out {member_id}")
            group.remove(member_id)

    async def shut_out(self) -> None:
        """A member loses its place though it lives, and cannot come back for a while."""
        process = self._any()
        if process is None:
            return
        duration_s = 0.3 + 1.5 * self.rng.random()
        self._note(f"shut {process.endpoint.name} out for {duration_s:.3f} s")
        relief = self.processes.start(process.service) if self.rng.random() < 0.5 else None
        group = self.cluster.group(process.service)
        self.cluster.network.deaf_to.add((process.endpoint.name, Request.JOIN))
        group.remove(group.last_id_of.get(process.endpoint.name, ""))
        await asyncio.sleep(duration_s)
        self.cluster.network.deaf_to.discard((process.endpoint.name, Request.JOIN))
        if relief is not None:
            await asyncio.sleep(0.3 * self.rng.random())
            self.processes.kill(relief)

    async def slow(self) -> None:
        """The way to the broker gets slow for a while."""
        network = self.cluster.network
        network.latency_s = 0.3
        self._note("the way to the broker is slow")
        await asyncio.sleep(2.0 * self.rng.random())
        network.latency_s = LATENCY_S

    async def lose(self) -> None:
        """A request or its reply is lost."""
        self._plan(self.rng.choice(_LOSSES))

    async def cut(self) -> None:
        """A process dies with a request under way."""
        self._plan(self.rng.choice(_CUTS))

    async def refuse(self) -> None:
        """The broker refuses a batch."""
        self.cluster.network.plans.append(Plan(Fate.REFUSED, Request.PRODUCE))

    async def broker_away(self) -> None:
        """The broker does not answer for a while."""
        await self._away(self.cluster.network, "the broker")

    async def database_away(self) -> None:
        """The database does not answer for a while."""
        await self._away(self.database.network, "the database")

    async def skew(self) -> None:
        """A process's clock goes wrong."""
        process = self._any()
        if process is not None:
            process.skew_ms = self.rng.choice((-5000, -500, 500, 5000))
            self._note(f"{process.endpoint.name}'s clock is off by {process.skew_ms} ms")

    def _plan(self, fate: Fate) -> None:
        if self._calls_tools and self._calls.random() < 0.4:
            network, request = self._calls.choice(
                ((self.world.network, Request.CALL), (self.database.network, Request.ENTER))
            )
            network.plans.append(Plan(fate, request))
        elif self.rng.random() < 0.15:
            self.database.network.plans.append(Plan(fate, self.rng.choice((Request.CLAIM, Request.WRITE))))
        else:
            self.cluster.network.plans.append(Plan(fate, self.rng.choice(_OF_KAFKA_MORE)))

    async def _away(self, network: Network, name: str) -> None:
        duration_s = self.rng.choice((0.3, 1.0, 2.0)) * (0.5 + self.rng.random())
        self._note(f"{name} is away for {duration_s:.3f} s")
        network.is_away = True
        await asyncio.sleep(duration_s)
        network.is_away = False

    async def _restart(self, service: str) -> None:
        await asyncio.sleep(0.7 * self.rng.random())
        self.processes.start(service)

    def _mend(self) -> None:
        """No more trouble: every service runs, and whatever is frozen goes on."""
        for network in self._networks:
            network.plans.clear()
            network.latency_s = LATENCY_S
        for process in list(self.processes.alive.values()):
            if process.is_frozen:
                self.processes.thaw(process)
        for service in self._services:
            if not any(not process.is_stopping for process in self.processes.of(service)):
                self.processes.start(service)

    def _on_death(self, process: Process, error: BaseException) -> None:
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


ODDITIES = (Simulation.noise, Simulation.locked_out, Simulation.late_letters)  # each in a few schedules

MOVES = (
    (Simulation.kill, 3),
    (Simulation.stop, 2),
    (Simulation.add, 1),
    (Simulation.freeze, 3),
    (Simulation.relieve, 1),
    (Simulation.rebalance, 2),
    (Simulation.put_out, 1),
    (Simulation.shut_out, 1),
    (Simulation.slow, 1),
    (Simulation.lose, 4),
    (Simulation.cut, 4),
    (Simulation.refuse, 2),
    (Simulation.broker_away, 1),
    (Simulation.database_away, 1),
    (Simulation.skew, 1),
)
