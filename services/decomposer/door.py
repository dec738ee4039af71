"""The door of the pipeline: which request is begun next, of those that were read, and whether any may be begun now.

    room in the pipeline, nobody waits   it is begun at once
    else                                 it waits; classes and tenants share as they do on the engine (conclave.domain.fair_queue)
    the most urgent class                may go a quarter beyond the room: it waits for nobody's path to end
    its deadline has passed              it is begun, so that it has its end in time: its samples fail without being decoded
    the service ends                     it is put back: whoever takes its partition reads it again
    nothing moves                        one is let in now and then: what counts as open may be markers and aborted records only
    what is open can't be told           as many as there would be room for are let in at each look

Room is conclave.domain.pacing.Room: it follows how many samples are open in the log.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from conclave.domain.fair_queue import FairQueue, Flow, Ticket
from conclave.domain.pacing import Room
from conclave.domain.priorities import MOST_URGENT
from conclave.errors import PutBack
from conclave.runtime import metrics
from conclave.runtime.backlog import Behind

_LOOK_S = 0.2  # between two counts of what is open, while the room is low
_UNTOLD_S = 10.0  # for which what was counted last holds, when nothing can be counted
_STUCK_S = 2.0  # without an end of any path: as long as that, nobody was let in either
_MAX_ENTERING = 16  # at once: how many samples each launches shows only then
_LEARNING = 0.1  # how much the latest request counts in how many samples the next is expected to launch

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Entry:
    """A request that goes through the door, and how many samples it launches."""

    has_waited: bool = False
    num_samples: int = 0


class Door:
    """See the module's docstring. `follow` must run beside it: without it nobody is let in.

    `count` tells what is open behind the door, `share` (0 to 1) how much of all requests this process has, `is_durable`
    whether what was made of the record at some coordinates is in the log.
    """

    def __init__(
        self,
        count: Callable[[], Awaitable[Behind]],
        share: Callable[[], float],
        is_durable: Callable[[str], bool],
        *,
        open_samples: int,
    ) -> None:
        self._count, self._share, self._is_durable = count, share, is_durable
        self._room = Room(open_samples)
        self._queue = FairQueue()
        self._turns: dict[Ticket, asyncio.Future[float]] = {}  # of those that wait: how many samples are counted for it
        self._expected = 8.0  # samples that a request launches
        self._num_entering, self._entering = 0, 0.0  # let in, and not through yet; and what is counted for those
        self._is_low = asyncio.Event()
        self._is_low.set()
        self._is_closing = self._is_unguarded = False
        self._behind = Behind(0, 0)
        self._moved_s = 0.0  # on the event loop's clock: when a path had ended, or one was let in
        self._waits = {each: metrics.REQUEST_WAIT_SECONDS.labels(each) for each in self._queue.num_waiting_of}
        for priority in self._queue.num_waiting_of:
            metrics.WAITING_REQUESTS.labels(priority).set_function(partial(self._num_waiting_of, priority))

    def status(self) -> dict[str, object]:
        """What /ready says."""
        return {
            "requests_waiting": dict(self._queue.num_waiting_of),
            "open_samples": None if self._is_unguarded else self._behind.num_open,
            "decoders": self._behind.num_members,
        }

    def close(self) -> None:
        """Lets nobody in any more: those that wait are put back."""
        self._is_closing = True
        for ticket, turn in self._turns.items():
            self._queue.leave(ticket)
            if not turn.done():
                turn.set_exception(PutBack())
        self._turns.clear()

    @asynccontextmanager
    async def entry(self, request_id: str, at: str, flow: Flow, *, left_s: float) -> AsyncIterator[Entry]:
        """The way of a request, whose record is `at`, through the door; the block says how many samples it launches.

        Waits no longer than `left_s`, which may be below 0. Raises: PutBack once the door is closed.
        """
        if self._is_closing:
            raise PutBack
        if left_s <= 0 or (not self._turns and self._room.is_open(is_urgent=flow.priority == MOST_URGENT)):
            entry = Entry()
            yield entry
            self._launched(at, entry.num_samples)
            return
        entry = Entry()
        ticket, expected = await self._wait(entry, request_id, flow, left_s)
        try:
            yield entry
        finally:
            self._queue.ended(ticket, float(entry.num_samples))
            self._is_through(expected)
            self._launched(at, entry.num_samples)

    async def follow(self) -> None:
        """Counts what is open whenever room gets low, for ever."""
        loop = asyncio.get_running_loop()
        counted_s = loop.time()
        while True:
            await self._is_low.wait()
            if self._share() > 0.0:
                self._is_low.clear()
                try:
                    self._room.in_log(self._is_durable)
                    self._counted(await self._count())
                    counted_s = loop.time()
                except Exception as error:  # noqa: BLE001  (whatever keeps from counting: requests go on all the same)
                    self._is_low.set()
                    if loop.time() - counted_s >= _UNTOLD_S:
                        self._untold(error)
            await asyncio.sleep(_LOOK_S)

    def _counted(self, behind: Behind) -> None:
        if self._is_unguarded:
            log.warning("open_samples_told")
        has_moved = behind.num_open < self._behind.num_open
        self._is_unguarded, self._behind = False, behind
        self._room.counted(
            behind.num_open, num_decoders=behind.num_members, share=self._share(), expected=self._entering
        )
        metrics.OPEN_SAMPLES.set(behind.num_open)
        now_s = asyncio.get_running_loop().time()
        self._moved_s = now_s if has_moved or not self._turns else self._moved_s
        self._let_in(is_stuck=now_s - self._moved_s >= _STUCK_S)

    def _untold(self, error: Exception) -> None:
        if not self._is_unguarded:
            log.warning("open_samples_untold", why=repr(error)[:300])
        self._is_unguarded = True
        self._room.counted(0, num_decoders=1, share=1.0)
        self._let_in()

    async def _wait(self, entry: Entry, request_id: str, flow: Flow, left_s: float) -> tuple[Ticket, float | None]:
        """A request's ticket once it is its turn, with how many samples were counted for it, or at its deadline."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        ticket = self._queue.enter(request_id, flow)
        turn = self._turns[ticket] = loop.create_future()
        self._let_in()
        entry.has_waited = not turn.done()
        expected: float | None
        try:
            async with asyncio.timeout(left_s):
                expected = await turn
        except TimeoutError:
            expected = self._given_up(ticket, turn)
        except asyncio.CancelledError:
            self._is_through(self._given_up(ticket, turn))
            raise
        self._waits[ticket.flow.priority].observe(loop.time() - started_s)
        return ticket, expected

    def _given_up(self, ticket: Ticket, turn: "asyncio.Future[float]") -> float | None:
        """What was counted for one that waits no longer, where its turn had come just then."""
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            return turn.result()
        self._turns.pop(ticket, None)
        self._queue.leave(ticket)
        return None

    def _is_through(self, expected: float | None) -> None:
        """Takes back what was counted for one that was let in; None: it was not."""
        if expected is not None:
            self._num_entering -= 1
            self._expect(-expected)
            self._let_in()

    def _launched(self, at: str, num_samples: int) -> None:
        if num_samples:
            self._expected += _LEARNING * (num_samples - self._expected)
            self._room.launched(at, num_samples)
        self._let_in()

    def _expect(self, num_samples: float) -> None:
        self._entering += num_samples
        self._room.expected(num_samples)

    def _let_in(self, *, is_stuck: bool = False) -> None:
        """Lets in those whose turn it is, while there is room, or one; has the room counted again where it is low."""
        while self._num_entering < _MAX_ENTERING and (ticket := self._next(is_stuck=is_stuck)) is not None:
            turn = self._turns.pop(ticket)
            if turn.cancelled():  # with its task, which has not run since
                self._queue.ended(ticket, 0.0)
                continue
            self._num_entering += 1
            self._expect(self._expected)
            turn.set_result(self._expected)
            self._moved_s, is_stuck = asyncio.get_running_loop().time(), False
        if self._room.is_low:
            self._is_low.set()

    def _next(self, *, is_stuck: bool) -> Ticket | None:
        if self._room.is_open() or is_stuck:
            return self._queue.next()
        return self._queue.next(MOST_URGENT) if self._room.is_open(is_urgent=True) else None

    def _num_waiting_of(self, priority: str) -> int:
        return self._queue.num_waiting_of[priority]
