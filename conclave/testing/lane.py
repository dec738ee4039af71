"""A lane in memory, for the laws of joining: a log, open groups, decisions on their way, and crashes at any moment."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from conclave.domain.joining import Decision
from conclave.errors import Rejected
from conclave.runtime.dead_letters import cause_of
from conclave.runtime.handler import Joiner
from schemas.events import Event


@dataclass
class SimulatedLane:
    """What conclave.domain.joining promises a joiner, and no more.

    A decision leaves memory at once and takes effect when it is flushed: then its inputs are done, its outputs are out and
    its carry is at the log's end, in one step. A crash loses everything but the log and which offsets are done.
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
        self.next_offset = 0

    def carry_forward(self, choice: int) -> None:
        """Has an open group carried, as when it holds the watermark back. One that can't be is left alone."""
        if self.groups:
            key = sorted(self.groups)[choice % len(self.groups)]
            try:
                carry = self.joiner.carry([self.log[offset] for offset in self.groups[key]])
            except Rejected:
                return
            self.unflushed.append((self.groups.pop(key), Decision((), carry)))

    def drain(self) -> None:
        """Reads and flushes until nothing moves."""
        while not self.is_idle:
            self.read(len(self.log))
            self.flush()

    def _join(self, key: str) -> None:
        offsets = self.groups[key]
        try:
            outcome = self.joiner.join([self.log[offset] for offset in offsets], self.now_ms)
        except Rejected as error:
            self.rejections.append(error)
            events = [self.log[offset] for offset in offsets]
            outcome = self.joiner.give_up(events, cause_of(error), self.now_ms)
        if isinstance(outcome, Decision):
            del self.groups[key]
            self.unflushed.append((offsets, outcome))


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
            case "tick":
                lane.tick()
            case _:
                raise AssertionError(move)
