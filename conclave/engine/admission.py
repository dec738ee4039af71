"""Which waiting sample the engine gets next. Pure.

Finish what was started: samples of a step that already has paths come before those of a new step, and among equals the
older. A step that was begun holds its prompt in the KV cache and its vote open; finishing it frees both.
"""

from collections import OrderedDict
from dataclasses import dataclass

from conclave.engine.protocol import EngineLoad

_REMEMBERED_STEPS = 4096


@dataclass(frozen=True, slots=True)
class Ticket:
    """A sample that waits: its step, and its place in the order of arrival."""

    step: str
    number: int


class Admission:
    """The waiting samples, and whether there is room for one more."""

    def __init__(self, *, max_running: int, kv_cache_use_limit: float = 0.95) -> None:
        self._max_running, self._kv_limit = max_running, kv_cache_use_limit
        self._started: OrderedDict[str, None] = OrderedDict()
        self._waiting: OrderedDict[str, OrderedDict[int, Ticket]] = OrderedDict()
        self._begun: OrderedDict[str, None] = OrderedDict()  # of the started steps, those that wait
        self._number = 0
        self.running = 0

    @property
    def num_waiting(self) -> int:
        """Samples that wait."""
        return sum(len(queue) for queue in self._waiting.values())

    def enter(self, step: str) -> Ticket:
        """A place at the end of the line."""
        self._number += 1
        ticket = Ticket(step, self._number)
        self._waiting.setdefault(step, OrderedDict())[ticket.number] = ticket
        if step in self._started:
            self._begun.setdefault(step)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Gives the place up."""
        queue = self._waiting.get(ticket.step)
        if queue is not None and queue.pop(ticket.number, None) is not None and not queue:
            self._forget(ticket.step)

    def next(self, load: EngineLoad) -> Ticket | None:
        """The sample to submit now, which counts as running from here; None while there is no room or no sample.

        An idle engine takes a sample whatever it says of its cache: something must run for anything to be freed.
        """
        if not self._waiting or self.running >= self._max_running:
            return None
        if self.running and load.kv_cache_use >= self._kv_limit:
            return None
        step = next(iter(self._begun), None) or next(iter(self._waiting))
        queue = self._waiting[step]
        _, ticket = queue.popitem(last=False)
        self._start(step)
        if not queue:
            self._forget(step)
        self.running += 1
        return ticket

    def finished(self) -> None:
        """One running sample has ended."""
        self.running -= 1

    def _start(self, step: str) -> None:
        self._started[step] = None
        self._started.move_to_end(step)
        if step in self._waiting:
            self._begun.setdefault(step)
        while len(self._started) > _REMEMBERED_STEPS:
            self._started.popitem(last=False)

    def _forget(self, step: str) -> None:
        self._waiting.pop(step, None)
        self._begun.pop(step, None)
