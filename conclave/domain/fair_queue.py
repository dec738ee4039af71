"""Whose turn it is on the engine, of all samples that wait. Pure.

    class of priority   by weight        what each gets is counted in tokens: conclave.domain.fair_shares
    tenant              alike            of the same class
    sample              of a step that was begun, else of a request that was begun, else the oldest

Finish what was started, within a tenant's own: a step that was begun holds its prompt in the KV cache and its vote open, and
finishing it frees both. Across tenants and classes their shares decide: else who has begun most would get most.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from conclave.domain.fair_shares import FairShares
from conclave.domain.priorities import DEFAULT_PRIORITY, PRIORITIES, known_priority

_REMEMBERED = 4096  # steps, and requests, that were begun
_LEARNING = 0.05  # how much the latest cost counts in what the next is guessed to cost


class Flow(NamedTuple):
    """Who shares: the class of priority, and whose it is within the class."""

    priority: str = DEFAULT_PRIORITY
    tenant: str = ""


ANYONE = Flow()


class Ticket(NamedTuple):
    """One that waits: its step, its place in the order of arrival, and on whose account it runs."""

    step: str
    number: int
    flow: Flow = ANYONE


class FairQueue:
    """Those that wait, and what those who had their turn are charged for it. `weights`: of each class, for those to be changed."""

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        known = {**PRIORITIES, **(weights or {})}
        self._classes = FairShares(lambda name: known[name])
        self._tenants = {name: FairShares(_alike) for name in known}
        self._backlogs: dict[Flow, _Backlog] = {}
        self._begun = _Begun()
        self._charged: dict[int, float] = {}  # by number, of those that run
        self._guess: float | None = None
        self._num_waiting = dict.fromkeys(known, 0)
        self.num_waiting = 0  # of all classes
        self._number = 0

    @property
    def num_waiting_of(self) -> Mapping[str, int]:
        """So many wait of each class."""
        return self._num_waiting

    def enter(self, step: str, flow: Flow = ANYONE) -> Ticket:
        """A place in the queue."""
        ticket = self._ticket(step, flow)
        flow = ticket.flow
        backlog = self._backlogs.get(flow)
        if backlog is None:
            backlog = self._backlogs[flow] = _Backlog(self._begun)
        backlog.add(ticket)
        self._num_waiting[flow.priority] += 1
        self.num_waiting += 1
        self._classes.join(flow.priority)
        self._tenants[flow.priority].join(flow.tenant)
        return ticket

    def pass_by(self, step: str, flow: Flow = ANYONE) -> Ticket:
        """A turn at once, while nobody waits: in effect `enter` and `next`, without a place in the queue between them."""
        assert not self.num_waiting, "others were there before"
        ticket = self._ticket(step, flow)
        self._begun.add(step)
        self._charged[ticket.number] = self._guess if self._guess is not None else 1.0
        # Whoever has work alone is charged for nothing: once nobody waits any more, all are even.
        self._classes.even_out()
        self._tenants[ticket.flow.priority].even_out()
        return ticket

    def _ticket(self, step: str, flow: Flow) -> Ticket:
        self._number += 1
        priority = known_priority(flow.priority)
        return Ticket(step, self._number, flow if priority == flow.priority else Flow(priority, flow.tenant))

    def leave(self, ticket: Ticket) -> None:
        """Gives the place up. One that is not there any more gives nothing up."""
        backlog = self._backlogs.get(ticket.flow)
        if backlog is not None and backlog.remove(ticket):
            self._gone(ticket.flow)

    def next(self, only: str | None = None) -> Ticket | None:
        """The one whose turn it is, which has begun from here; None when nobody waits. `only`: of this class."""
        priority = self._classes.first() if only is None else only
        if priority is None or not self._num_waiting[priority]:
            return None
        tenant = self._tenants[priority].first()
        assert tenant is not None, "a class has work without a tenant that has"
        flow = Flow(priority, tenant)
        ticket = self._backlogs[flow].pop()
        self._begun.add(ticket.step)
        self._backlogs[flow].rank(ticket.step)
        cost = self._charged[ticket.number] = self._guess if self._guess is not None else 1.0
        self._charge(flow, cost)
        self._gone(flow)
        return ticket

    def ended(self, ticket: Ticket, cost: float | None = None) -> None:
        """One that had its turn has ended, and cost so many tokens.

        None where nobody knows: then it is what it was guessed to cost. 0: it has not run at all.
        """
        guessed = self._charged.pop(ticket.number, None)
        if guessed is None or cost is None:
            return
        self._charge(ticket.flow, cost - guessed)
        if cost > 0:
            self._guess = cost if self._guess is None else self._guess + _LEARNING * (cost - self._guess)

    def _charge(self, flow: Flow, cost: float) -> None:
        self._classes.charge(flow.priority, cost)
        self._tenants[flow.priority].charge(flow.tenant, cost)

    def _gone(self, flow: Flow) -> None:
        """Counts one less that waits."""
        self._num_waiting[flow.priority] -= 1
        self.num_waiting -= 1
        if self._backlogs[flow].is_empty:
            del self._backlogs[flow]
            self._tenants[flow.priority].leave(flow.tenant)
        if not self._num_waiting[flow.priority]:
            self._classes.leave(flow.priority)


def _alike(_: str) -> float:
    return 1.0


def _request_of(step: str) -> str:
    return step.rpartition("/")[0] or step


class _Begun:
    """Which steps, and which requests, were begun; the latest of each."""

    def __init__(self) -> None:
        self._steps: OrderedDict[str, None] = OrderedDict()
        self._requests: OrderedDict[str, None] = OrderedDict()

    def add(self, step: str) -> None:
        for known, name in ((self._steps, step), (self._requests, _request_of(step))):
            known[name] = None
            known.move_to_end(name)
            if len(known) > _REMEMBERED:
                known.popitem(last=False)

    def rank(self, step: str) -> int:
        """0: the step was begun, 1: its request was, 2: neither."""
        if step in self._steps:
            return 0
        return 1 if _request_of(step) in self._requests else 2


class _Backlog:
    """Those of one flow that wait, by step, each step in one of three lines by what of it was begun."""

    def __init__(self, begun: _Begun) -> None:
        self._begun = begun
        self._waiting: dict[str, OrderedDict[int, Ticket]] = {}
        self._steps_of: dict[str, dict[str, None]] = {}  # that wait, by request
        self._lines: tuple[OrderedDict[str, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def add(self, ticket: Ticket) -> None:
        if ticket.step not in self._waiting:
            self._waiting[ticket.step] = OrderedDict()
            self._steps_of.setdefault(_request_of(ticket.step), {})[ticket.step] = None
            self._lines[self._begun.rank(ticket.step)][ticket.step] = None
        self._waiting[ticket.step][ticket.number] = ticket

    def remove(self, ticket: Ticket) -> bool:
        """True for one that waited."""
        waiting = self._waiting.get(ticket.step)
        if waiting is None or waiting.pop(ticket.number, None) is None:
            return False
        self._drop_if_empty(ticket.step)
        return True

    def pop(self) -> Ticket:
        """The first of the first line that has any."""
        step = next(step for line in self._lines for step in line)
        _, ticket = self._waiting[step].popitem(last=False)
        self._drop_if_empty(step)
        return ticket

    def rank(self, begun: str) -> None:
        """Puts the steps of a request that was begun just now into their lines."""
        for step in self._steps_of.get(_request_of(begun), ()):
            rank = self._begun.rank(step)
            if step not in self._lines[rank]:
                self._leave_lines(step)
                self._lines[rank][step] = None

    def _drop_if_empty(self, step: str) -> None:
        if self._waiting[step]:
            return
        del self._waiting[step]
        self._leave_lines(step)
        request = _request_of(step)
        del self._steps_of[request][step]
        if not self._steps_of[request]:
            del self._steps_of[request]

    def _leave_lines(self, step: str) -> None:
        for line in self._lines:
            line.pop(step, None)
