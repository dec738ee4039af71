"""A lane in memory, for the laws of joining: a log, open groups, decisions on their way, and crashes at any moment."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from conclave.domain.joining import Decision
from conclave.errors import Rejected, Unbegun
from conclave.runtime.dead_letters import Cause, Reason, cause_of
from conclave.runtime.endings import given_up
from conclave.runtime.handler import Joiner
from schemas.events import Event


@dataclass
class SimulatedLane:
    """What conclave.domain.joining promises a joiner, and no more.

    A decision leaves memory at once and takes effect when it is flushed: then its inputs are done, its outputs are out and
    its carry is at the log's end, in one step. A crash loses everything but the log and which offsets are done. A group of
    which the joiner says that it has no beginning is given up once nothing that was written before can bring one.
    """

    joiner: Joiner
    on_output: Callable[[Event], None]
    now_ms: int
    log: list[Event] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    outputs: list[Event] = field(default_factory=list)
    rejections: list[Rejected] = field(default_factory=list)
    next_offset: int = 0
    groups: dict[str, list[int]] = field(default_factory=dict)
    unflushed: deque[tuple[Sequence[int], Decision]] = field(default_factory=deque)
    num_faults: int = 0  # so many joins to come fail, as by a bug or an output that no record can hold
    _carries: dict[str, list[Event]] = field(default_factory=dict)  # those under way since the last crash, by key
    _crashed_at: int = 0  # the log's length at the last crash

    @property
    def is_settled(self) -> bool:
        """True when every record of the log has been completed: no group is open."""
        return self.done == set(range(len(self.log)))

    @property
    def is_idle(self) -> bool:
        """True when there is nothing to read and nothing to flush."""
        return self.next_offset == len(self.log) and not self.unflushed

    def read(self, num_records: int = 1) -> None:
        """Reads on, and joins the groups that grew once the batch is in."""
        touched: dict[str, None] = {}
        while num_records and self.next_offset < len(self.log):
            offset, self.next_offset = self.next_offset, self.next_offset + 1
            if offset not in self.done:
                key = self.joiner.key(self.log[offset])
                under_way = [each for each in self._carries.pop(key, ()) if each is not self.log[offset]]
                if under_way:
                    self._carries[key] = under_way
                self.groups.setdefault(key, []).append(offset)
                touched[key] = None
                num_records -= 1
        for key in touched:
            self._join(key)

    def tick(self) -> None:
        """Joins every open group again, as their time may have come."""
        for key in list(self.groups):
            self._join(key)

    def flush(self) -> None:
        """Lets the oldest decision take effect."""
        if self.unflushed:
            offsets, decision = self.unflushed.popleft()
            assert self.done.isdisjoint(offsets), "an event was part of two effects"
            self.done.update(offsets)
            if decision.carry is not None:
                self.log.append(decision.carry)
            for output in decision.outputs:
                self.outputs.append(output)
                self.on_output(output)

    def crash(self) -> None:
        """Loses the memory: what is not done will be read again."""
        self.groups.clear()
        self.unflushed.clear()
        self.next_offset, self._crashed_at = 0, len(self.log)
        self._carries.clear()

    def carry_forward(self, choice: int) -> None:
        """Has an open group carried, as when it holds the watermark back. One that can't be is left alone."""
        if self.groups:
            key = sorted(self.groups)[choice % len(self.groups)]
            try:
                carry = self.joiner.carry([self.log[offset] for offset in self.groups[key]])
            except Rejected:
                return
            self._close(key, Decision((), carry))

    def drain(self) -> None:
        """Reads and flushes until nothing moves."""
        while not self.is_idle:
            self.read(len(self.log))
            self.flush()

    def _join(self, key: str) -> None:
        events = [self.log[offset] for offset in self.groups[key]]
        if self.num_faults:
            decision = given_up(self.joiner, events, Cause(Reason.HANDLER, "a fault"), self.now_ms)
            if (
                decision != Decision()
            ):  # a closing carry alone has nothing left to end: faults in it are not of interest
                self.num_faults -= 1
                self._close(key, decision)
                return
        try:
            outcome = self.joiner.join(events, self.now_ms)
        except Rejected as error:
            if isinstance(error, Unbegun) and self._may_grow(key):
                return
            self.rejections.append(error)
            outcome = given_up(self.joiner, events, cause_of(error), self.now_ms)
        if isinstance(outcome, Decision) and not (outcome.once_read and self._may_grow(key)):
            self._close(key, outcome)

    def _may_grow(self, key: str) -> bool:
        return key in self._carries or self.next_offset < self._crashed_at

    def _close(self, key: str, decision: Decision) -> None:
        if decision.carry is not None:
            self._carries.setdefault(key, []).append(decision.carry)
        self.unflushed.append((self.groups.pop(key), decision))


def run(lane: SimulatedLane, moves: Sequence[tuple[str, int]], report: Callable[[int], None]) -> None:
    """Makes the moves, each a name and a number. `report` has one of those who owe the lane an event deliver it."""
    for move, number in moves:
        match move:
            case "report":
                report(number)
            case "read":
                lane.read(1 + number % 4)
            case "flush":
                lane.flush()
            case "crash":
                lane.crash()
            case "carry":
                lane.carry_forward(number)
            case "fault":
                lane.num_faults = 1
            case "tick":
                lane.tick()
            case _:
                raise AssertionError(move)


class Others(Protocol):
    """Those who answer what a joiner's outputs ask of them. `owed` is what they have not answered yet."""

    owed: list[Any]

    def report(self, lane: SimulatedLane, choice: int) -> None:
        """Puts the answer to one of what is owed into the lane's log; nothing when nothing is."""
        ...


S = TypeVar("S", bound=Others)


@dataclass
class Scene(Generic[S]):
    """A lane, and those who owe it events."""

    lane: SimulatedLane
    others: S

    def play(self, moves: Sequence[tuple[str, int]]) -> None:
        """Makes the moves."""
        run(self.lane, moves, lambda choice: self.others.report(self.lane, choice))

    def finish(self) -> None:
        """Plays until nothing is owed and nothing moves."""
        while self.others.owed or not self.lane.is_idle:
            self.play([("report", 0), ("read", 0), ("flush", 0)])
