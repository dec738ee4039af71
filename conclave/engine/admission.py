"""The waiting room of an engine, and which of those that wait gets the next turn.

Finish what was started: samples of a step that already has paths come before those of a new step, and among equals the
older. A step that was begun holds its prompt in the KV cache and its vote open; finishing it frees both.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from conclave.engine.protocol import EngineLoad

_REMEMBERED_STEPS = 4096


@dataclass(frozen=True, slots=True)
class Ticket:
    """One that waits: its step, and its place in the order of arrival."""

    step: str
    number: int


class Line:
    """Those that wait, and whether there is room for one more. Pure."""

    def __init__(self, *, max_running: int, kv_cache_use_limit: float = 0.95) -> None:
        self._max_running, self._kv_limit = max_running, kv_cache_use_limit
        self._started: OrderedDict[str, None] = OrderedDict()
        self._waiting: OrderedDict[str, OrderedDict[int, Ticket]] = OrderedDict()
        self._begun: OrderedDict[str, None] = OrderedDict()  # of the started steps, those that wait
        self._number = 0
        self.running = 0

    @property
    def num_waiting(self) -> int:
        """So many wait."""
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
        """The one whose turn it is, which counts as running from here; None while there is no room or nobody waits.

        An idle engine takes one whatever it says of its cache: something must run for anything to be freed.
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
        """One that ran has ended."""
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


class Admission:
    """The waiting room: `async with admission.turn(step)` waits for a turn on the engine and gives it back."""

    def __init__(self, load: Callable[[], EngineLoad], *, max_running: int, kv_cache_use_limit: float = 0.95) -> None:
        self._load = load
        self._line = Line(max_running=max_running, kv_cache_use_limit=kv_cache_use_limit)
        self._turns: dict[Ticket, asyncio.Future[None]] = {}

    @property
    def num_waiting(self) -> int:
        """So many wait."""
        return self._line.num_waiting

    @asynccontextmanager
    async def turn(self, step: str) -> AsyncIterator[None]:
        """A turn on the engine, held as long as the block runs. Whoever is cancelled while waiting gives up its place."""
        ticket = self._line.enter(step)
        turn = self._turns[ticket] = asyncio.get_running_loop().create_future()
        try:
            self._admit()
            await turn
        except asyncio.CancelledError:
            self._turns.pop(ticket, None)
            self._line.leave(ticket)
            if turn.done() and not turn.cancelled():
                self._free()
            raise
        try:
            yield
        finally:
            self._free()

    def _free(self) -> None:
        self._line.finished()
        self._admit()

    def _admit(self) -> None:
        while (ticket := self._line.next(self._load())) is not None:
            turn = self._turns.pop(ticket)
            if turn.cancelled():
                self._line.finished()
            else:
                turn.set_result(None)
