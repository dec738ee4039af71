"""The stages between a request and its answer, played on a machine.

    1. a request waits for room at the decomposer, which makes it so many samples
    2. a decoder's lane takes them to the engine (without one a path takes no time), and publishes what has ended
    3. the voter's lane of the request takes its paths, and decides with the last
    4. the aggregator's lane answers

Each service has a lane for a partition. A lane takes all that waits for it, computes in its process, commits (Kafka computes), and
takes what has come meanwhile: so transactions grow with the load. A recorder writes what there is of all that, in the background.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from random import Random

from conclave.domain.capacity.costs import SERVICES, Costs, Engine, Played, Stack
from conclave.domain.capacity.machine import Machine, Process, Then

OPEN_SAMPLES = 3072  # for each decoder, as the decomposer's door has it
BETWEEN_WRITES_S = 0.1  # of a recorder, as it paces itself
_MOST_OF_A_BATCH = 500


@dataclass(slots=True)
class _Work:
    """Some events of one lane: how many paths and requests they count for, and the requests that they are of."""

    paths: int
    requests: int
    of: int  # the request


class _Lane:
    """One partition of a service: one transaction after the other, of all that waits."""

    def __init__(self, play: "Pipeline", part: str, process: Process, hand_on: Callable[[list[_Work]], None]) -> None:
        self._play, self._part, self._process, self._hand_on = play, part, process, hand_on
        self._waiting: deque[_Work] = deque()
        self._is_busy = False

    def take(self, work: _Work) -> None:
        self._waiting.append(work)
        if not self._is_busy:
            self._start()

    def _start(self) -> None:
        self._is_busy = True
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_OF_A_BATCH))]
        cpu_s = self._play.cpu_s(self._part, batch)
        self._process.compute(cpu_s, partial(self._commit, batch))

    def _commit(self, batch: list[_Work]) -> None:
        self._play.commit(self._part, batch, partial(self._committed, batch))

    def _committed(self, batch: list[_Work]) -> None:
        self._is_busy = False
        self._play.hop(partial(self._hand_on, batch))
        if self._waiting:
            self._start()


class _Places:
    """An engine: paths run side by side as far as there are places, the others wait in order."""

    def __init__(self, machine: Machine, engine: Engine, random: Random) -> None:
        self._machine, self._engine, self._random = machine, engine, random
        self._waiting: deque[Then] = deque()
        self._running = 0
        self._since_s = 0.0
        self.running_s = 0.0

    def run(self, then: Then) -> None:
        """Calls back when a path has been decoded."""
        if self._running < self._engine.places:
            self._start(then)
        else:
            self._waiting.append(then)

    def _start(self, then: Then) -> None:
        self._count(+1)
        seconds = self._engine.path_s(float(self._running)) * _uneven(self._random, self._engine.spread)
        self._machine.later(seconds, partial(self._ended, then))

    def _ended(self, then: Then) -> None:
        self._count(-1)
        if self._waiting:
            self._start(self._waiting.popleft())
        then()

    def _count(self, more: int) -> None:
        self.running_s += self._running * (self._machine.now_s - self._since_s)
        self._since_s = self._machine.now_s
        self._running += more


@dataclass(slots=True)
class _Recording:
    """What a recorder has still to write."""

    process: Process
    paths: int = 0
    requests: int = 0
    is_busy: bool = False
    next_s: float = 0.0


@dataclass(slots=True)
class Pipeline:
    """A stack at work. `due_s`: when requests come, in order, from 0 on."""

    costs: Costs
    stack: Stack
    random: Random
    _machine: Machine = field(init=False)
    _processes: dict[str, list[Process]] = field(init=False)
    _lanes: dict[str, list[_Lane]] = field(init=False)
    _places: _Places | None = field(init=False)
    _recordings: list[_Recording] = field(init=False)
    _at_door: deque[int] = field(default_factory=deque)
    _num_open: int = 0
    _left: dict[int, int] = field(default_factory=dict)  # samples of a request that have not been heard of
    _asked_s: dict[int, float] = field(default_factory=dict)
    _took_s: list[float] = field(default_factory=list)
    _transactions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SERVICES, 0))
    _kafka_s: float = 0.0
    _postgres_s: float = 0.0

    def __post_init__(self) -> None:
        idle = sum(cost.idle_cores * self.stack.processes(part) for part, cost in self.costs.parts.items())
        self._machine = Machine(max(0.01, self.costs.used * self.stack.cores - idle))
        self._processes = {
            part: [Process(self._machine) for _ in range(self.stack.processes(part))] for part in SERVICES
        }
        hands = {"decomposer": self._planned, "decoder": self._decoded, "voter": self._voted, "aggregator": self._told}
        self._lanes = {
            part: [self._lane(part, at, hand) for at in range(self.stack.partitions)] for part, hand in hands.items()
        }
        engine = self.stack.engine
        self._places = None if engine is None else _Places(self._machine, engine, self.random)
        self._recordings = [_Recording(process) for process in self._processes["recorder"]]

    def _lane(self, part: str, at: int, hand_on: Callable[[list[_Work]], None]) -> _Lane:
        processes = self._processes[part]
        return _Lane(self, part, processes[at % len(processes)], hand_on)

    def play(self, due_s: Iterator[float], num_requests: int) -> Played:
        """What comes of so many requests."""
        self._ask(due_s, 0, num_requests)
        self._machine.run(lambda: len(self._took_s) == num_requests)
        busy = {part: sum(each.busy_s for each in processes) for part, processes in self._processes.items()}
        busy |= {"kafka": self._kafka_s, "postgres": self._postgres_s}
        running_s = 0.0 if self._places is None else self._places.running_s
        return Played(tuple(self._took_s), self._machine.now_s, busy, dict(self._transactions), running_s)

    def _ask(self, due_s: Iterator[float], number: int, num_requests: int) -> None:
        """The next requests, all that are due by now."""
        for request in range(number, num_requests):
            at_s = next(due_s)
            if at_s > self._machine.now_s:
                self._machine.later(at_s - self._machine.now_s, partial(self._asked, due_s, request, num_requests))
                return
            self._arrived(request)

    def _asked(self, due_s: Iterator[float], number: int, num_requests: int) -> None:
        self._arrived(number)
        self._ask(due_s, number + 1, num_requests)

    # -- the stages -----------------------------------------------------------------------------------------------------

    def _arrived(self, request: int) -> None:
        self._asked_s[request] = self._machine.now_s
        self._at_door.append(request)
        self._open_door()

    def _open_door(self) -> None:
        room = OPEN_SAMPLES * self.stack.processes("decoder")
        while self._at_door and (self._num_open == 0 or self._num_open + self.stack.samples <= room):
            request = self._at_door.popleft()
            self._num_open += self.stack.samples
            self._lane_of("decomposer", request).take(_Work(self.stack.samples, 1, request))

    def _planned(self, batch: list[_Work]) -> None:
        for work in batch:
            self._left[work.of] = self.stack.samples
            lane = self._lanes["decoder"][self.random.randrange(self.stack.partitions)]
            if self._places is None:
                lane.take(_Work(self.stack.samples, 0, work.of))
            else:
                for _ in range(self.stack.samples):
                    self._places.run(partial(lane.take, _Work(1, 0, work.of)))

    def _decoded(self, batch: list[_Work]) -> None:
        for work in batch:
            self._num_open -= work.paths
            self._left[work.of] -= work.paths
            is_last = self._left[work.of] == 0
            self._lane_of("voter", work.of).take(_Work(work.paths, int(is_last), work.of))
        self._open_door()

    def _voted(self, batch: list[_Work]) -> None:
        for work in batch:
            if work.requests:
                self._lane_of("aggregator", work.of).take(_Work(0, 1, work.of))

    def _told(self, batch: list[_Work]) -> None:
        for work in batch:
            self._took_s.append(self._machine.now_s - self._asked_s.pop(work.of))
            del self._left[work.of]

    def _lane_of(self, part: str, request: int) -> _Lane:
        return self._lanes[part][request % self.stack.partitions]

    # -- what it costs --------------------------------------------------------------------------------------------------

    def cpu_s(self, part: str, batch: list[_Work]) -> float:
        """CPU of a service for a transaction of these events."""
        paths, requests = sum(work.paths for work in batch), sum(work.requests for work in batch)
        return self.costs.parts[part].seconds(paths, requests, 1) * _uneven(self.random, self.costs.uneven)

    def commit(self, part: str, batch: list[_Work], then: Then) -> None:
        """Kafka takes a transaction; recorders hear of it."""
        self._transactions[part] += 1
        paths = sum(work.paths for work in batch) if part == "decoder" else 0
        requests = len(batch) if part == "aggregator" else 0
        cpu_s = self.costs.parts["kafka"].seconds(paths, requests, 1) * _uneven(self.random, self.costs.uneven)
        self._kafka_s += cpu_s
        self._machine.compute(cpu_s, then)
        self._record(paths, requests)

    def hop(self, then: Then) -> None:
        """The next service hears of it."""
        self._machine.later(self.costs.hop_ms / 1000 * _uneven(self.random, self.costs.uneven), then)

    def _record(self, paths: int, requests: int) -> None:
        if not paths + requests:
            return
        recording = min(self._recordings, key=lambda each: each.paths)
        recording.paths += paths
        recording.requests += requests
        if not recording.is_busy:
            recording.is_busy = True
            self._machine.later(max(0.0, recording.next_s - self._machine.now_s), partial(self._write, recording))

    def _write(self, recording: _Recording) -> None:
        paths, requests, recording.paths, recording.requests = recording.paths, recording.requests, 0, 0
        recording.next_s = self._machine.now_s + BETWEEN_WRITES_S
        self._transactions["recorder"] += 1
        database_s = self.costs.parts["postgres"].seconds(paths, requests, 1)
        self._postgres_s += database_s
        cpu_s = self.costs.parts["recorder"].seconds(paths, requests, 1)
        recording.process.compute(cpu_s, partial(self._machine.compute, database_s, partial(self._written, recording)))

    def _written(self, recording: _Recording) -> None:
        recording.is_busy = recording.paths + recording.requests > 0
        if recording.is_busy:
            self._machine.later(max(0.0, recording.next_s - self._machine.now_s), partial(self._write, recording))


def _uneven(random: Random, spread: float) -> float:
    """A factor of mean 1, by a gamma distribution of this deviation."""
    return random.gammavariate(1 / spread**2, spread**2) if spread > 0 else 1.0
