"""The waiting room of an engine: how much runs at once, and which of those that wait gets the next turn.

Whose turn it is says conclave.domain.fair_queue. It is decided here and not in the engine, where what waits can't be overtaken.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from conclave.domain.fair_queue import ANYONE, FairQueue, Flow, Ticket
from conclave.domain.in_flight import InFlight
from conclave.engine import metrics
from conclave.engine.cut import Cut
from conclave.engine.protocol import Decoded, EngineLoad
from conclave.errors import PutBack

# What a token of a prompt costs beside one that is generated (Sheng et al., 2024, section 4: weights 1 and 2).
_PROMPT_TOKEN_COST = 0.5


class Line:
    """Those that wait, and whether there is room for one more. Pure.

    With `min_running`, how many run at once follows the engine's pressure from there to `max_running`; without, it is that.
    """

    def __init__(
        self,
        *,
        max_running: int,
        kv_cache_use_limit: float = 0.95,
        weights: Mapping[str, float] | None = None,
        min_running: int | None = None,
    ) -> None:
        self._max_running, self._kv_limit = max_running, kv_cache_use_limit
        self._in_flight = (
            None
            if min_running is None
            else InFlight(least=min(min_running, max_running), most=max_running, kv_cache_use_limit=kv_cache_use_limit)
        )
        self.queue = FairQueue(weights)
        self.running = 0

    @property
    def limit(self) -> int:
        """So many may run at once, as things are."""
        return self._max_running if self._in_flight is None else self._in_flight.limit

    def next(self, load: EngineLoad) -> Ticket | None:
        """The one whose turn it is, which counts as running from here; None while there is no room or nobody waits.

        An idle engine takes one whatever it says of its cache: something must run for anything to be freed.
        """
        ticket = self.queue.next() if self.may_begin(load) else None
        if ticket is not None:
            self.running += 1
        return ticket

    def pass_by(self, step: str, flow: Flow, load: EngineLoad) -> Ticket | None:
        """The same for one that comes while nobody waits, where there is room."""
        if not self.may_begin(load):
            return None
        self.running += 1
        return self.queue.pass_by(step, flow)

    def may_begin(self, load: EngineLoad) -> bool:
        """True while there is room for one more, as the engine bears what it has."""
        if self._in_flight is not None:
            self._in_flight.look(kv_cache_use=load.kv_cache_use, preemptions=load.preemptions, running=self.running)
        if self.running >= self.limit:
            return False
        return not self.running or load.kv_cache_use < self._kv_limit

    def bore(self, decoded: Decoded) -> None:
        """How the engine bore one that is about to be finished."""
        if self._in_flight is not None:
            self._in_flight.ended(queued_ms=decoded.queued_ms, total_ms=decoded.total_ms, running=self.running)

    def finished(self, ticket: Ticket, cost: float | None = None) -> None:
        """One that ran has ended, and has cost so many tokens; None where nobody knows."""
        self.running -= 1
        self.queue.ended(ticket, cost)


@dataclass(slots=True)
class Turn:
    """A turn on the engine: how long it was waited for, and what it cost, once that is known."""

    waited_ms: float
    decoded: Decoded | None = None  # in it, so that whose it is can be charged for it

    @property
    def cost(self) -> float | None:
        """Tokens, those of the prompt at what they cost beside one that is generated; None: unknown."""
        if self.decoded is None or self.decoded.tokens_out is None:
            return None
        return self.decoded.tokens_out + _PROMPT_TOKEN_COST * (self.decoded.tokens_in or 0)


class Admission:
    """The waiting room: `async with admission.turn(step)` waits for a turn on the engine and gives it back."""

    def __init__(
        self,
        load: Callable[[], EngineLoad],
        *,
        max_running: int,
        kv_cache_use_limit: float = 0.95,
        weights: Mapping[str, float] | None = None,
        min_running: int | None = None,
    ) -> None:
        self._load = load
        self._line = Line(
            max_running=max_running,
            kv_cache_use_limit=kv_cache_use_limit,
            weights=weights,
            min_running=min_running,
        )
        self._turns: dict[Ticket, asyncio.Future[None]] = {}
        self._unbegun: set[Ticket] = set()
        self._is_closing = False
        self._waits = {each: metrics.TURN_WAIT_SECONDS.labels(each) for each in self.num_waiting_of}
        self._measure()

    @property
    def num_waiting(self) -> int:
        """So many wait."""
        return self._line.queue.num_waiting

    @property
    def limit(self) -> int:
        """So many may run at once, as things are."""
        return self._line.limit

    @property
    def num_waiting_of(self) -> Mapping[str, int]:
        """So many wait of each class of priority."""
        return self._line.queue.num_waiting_of

    def close(self) -> None:
        """Lets no path begin any more: those that wait to begin are put back. Those that have begun come to their end."""
        self._is_closing = True
        for ticket in self._unbegun:
            self._put_back(ticket)
        self._unbegun.clear()

    def turn(
        self, step: str, flow: Flow = ANYONE, *, has_begun: bool = False, cut: Cut | None = None
    ) -> AbstractAsyncContextManager[Turn]:
        """A turn on the engine, held as long as the block runs. Whoever is cancelled while waiting gives up its place.

        `has_begun`: its path would lose something. Raises: PutBack for one that has not, once the room is closed, and for one that
        has as soon as it is to be cut.
        """
        return _Held(self, step, flow, cut if has_begun else None, has_begun)

    def pass_by(self, step: str, flow: Flow, *, has_begun: bool) -> Ticket | None:
        """A turn at once, where nobody waits and there is room; to be handed to `give_back`. For `turn`."""
        if self._is_closing and not has_begun:
            raise PutBack
        return None if self._turns else self._line.pass_by(step, flow, self._load())

    async def wait(self, step: str, flow: Flow, cut: Cut | None, *, has_begun: bool) -> tuple[Ticket, float]:
        """A turn, once it has come, and the seconds until then. For `turn`."""
        clock = asyncio.get_running_loop().time
        started_s = clock()
        ticket = await self._wait(step, flow, cut, has_begun)
        return ticket, clock() - started_s

    def waited(self, ticket: Ticket, waited_s: float) -> None:
        """Measures the wait for a turn."""
        self._waits[ticket.flow.priority].observe(waited_s)

    def give_back(self, ticket: Ticket, turn: Turn) -> None:
        """Ends a turn."""
        if turn.decoded is not None:
            self._line.bore(turn.decoded)
        self._free(ticket, turn.cost)

    async def _wait(self, step: str, flow: Flow, cut: Cut | None, has_begun: bool) -> Ticket:
        ticket = self._line.queue.enter(step, flow)
        turn = self._turns[ticket] = asyncio.get_running_loop().create_future()
        if not has_begun:
            self._unbegun.add(ticket)
        try:
            if cut is not None:
                cut.tell(partial(self._put_back, ticket))
            self._admit()
            await turn
        except asyncio.CancelledError:
            self._turns.pop(ticket, None)
            self._line.queue.leave(ticket)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free(ticket, 0.0)
            raise
        finally:
            self._unbegun.discard(ticket)
            if cut is not None:
                cut.tell(None)
        return ticket

    def _put_back(self, ticket: Ticket) -> None:
        """Ends the wait for a turn, unless it has come."""
        turn = self._turns.pop(ticket, None)
        if turn is not None:
            self._line.queue.leave(ticket)
            if not turn.done():
                turn.set_exception(PutBack())

    def _free(self, ticket: Ticket, cost: float | None) -> None:
        self._line.finished(ticket, cost)
        self._admit()

    def _admit(self) -> None:
        while self._turns and (ticket := self._line.next(self._load())) is not None:
            turn = self._turns.pop(ticket)
            self._unbegun.discard(ticket)
            if turn.cancelled():
                self._line.finished(ticket, 0.0)
            else:
                turn.set_result(None)

    def _measure(self) -> None:
        """Has the gauges read what they show when they are asked: to set them costs more than a turn does."""
        metrics.IN_FLIGHT_LIMIT.set_function(lambda: self.limit)
        for priority in self.num_waiting_of:
            metrics.WAITING_TURNS.labels(priority).set_function(partial(self._num_waiting_of, priority))

    def _num_waiting_of(self, priority: str) -> int:
        return self.num_waiting_of[priority]


class _Held:
    """A turn from where it is waited for to where it is given back."""

    def __init__(self, room: Admission, step: str, flow: Flow, cut: Cut | None, has_begun: bool) -> None:
        self._room, self._step, self._flow, self._cut, self._has_begun = room, step, flow, cut, has_begun
        self._taken: tuple[Ticket, Turn] | None = None

    async def __aenter__(self) -> Turn:
        ticket, waited_s = self._room.pass_by(self._step, self._flow, has_begun=self._has_begun), 0.0
        if ticket is None:
            ticket, waited_s = await self._room.wait(self._step, self._flow, self._cut, has_begun=self._has_begun)
        self._room.waited(ticket, waited_s)
        turn = Turn(waited_s * 1000)
        self._taken = ticket, turn
        return turn

    async def __aexit__(self, *_: object) -> None:
        assert self._taken is not None
        self._room.give_back(*self._taken)
