"""One breaker per model server: everyone in the process calls through it, so what one call hears, all obey.

    serving ──a refusal that will pass (429, Retry-After)──→ serving, after a pause, with fewer calls at once
       │ ↑
       │ └──────────── a trial call succeeds: slow start ────────────┐
       ├──no connection, or several failures in a row──→ away ───────┤
       └──a setting or an account is at fault──────────→ barred ─────┘

Slow start: after an outage one call may run; each that the server takes lets one more in. A refusal halves what may run, but
never below what does run: it is no reason against calls that the server has taken. Where it came without a pause to keep, what ran
then is a limit, which doubles again with every half second that nothing is refused, and half of which may run at once as soon as
the server takes a call again. Where a server asks for no particular pause, a pause is a tenth of the time that
the trouble has lasted, within bounds: so pauses add a tenth at most to an outage.
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from conclave.engine import metrics
from conclave.engine.pace import Pace
from conclave.engine.trouble import Trouble, TroubleKind, TroubleListener, ignore

_SHARE = 0.1  # of the time that trouble has lasted, to be waited before the next call
_DOUBLING_S = 0.5  # without a refusal, in which the known limit doubles: it may have been one of the moment
_CALM_S = 10.0  # without a refusal: the server keeps up again
_RECHECK_FLOOR = 10  # pauses while a setting is at fault are so many times the shortest

log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Call:
    """One call that runs."""

    began: float
    is_trial: bool = False  # made to see whether an outage is over
    is_taken: bool = False


class Breaker:
    """See the module's docstring. `try_once` makes one small call and tells the breaker what came of it."""

    def __init__(
        self,
        *,
        max_running: int,
        pace: Pace,
        try_once: Callable[[Call], Awaitable[None]],
        rng: random.Random | None = None,
    ) -> None:
        self._max_running, self._pace, self._try_once = max_running, pace, try_once
        self._rng = rng or random.Random()
        self._hear: TroubleListener = ignore
        self._outage: Trouble | None = None  # away or barred
        self._outage_began = 0.0
        self._unsteady: str | None = None
        self._failures = 0
        self._window, self._limit = float(max_running), float(max_running)
        self._paused_until, self._slowed_at = 0.0, float("-inf")
        self._refused_since: float | None = None
        self._refused_why = ""
        self._is_told = False  # until when it refuses
        self._is_slow = False  # said to be, in the log
        self._calls: set[Call] = set()
        self._num_entering = 0  # let in, and not yet among the calls
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._recovery: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- what is seen of it -------------------------------------------------------------------------------------------

    @property
    def num_running(self) -> int:
        """Calls under way."""
        return len(self._calls)

    @property
    def num_waiting(self) -> int:
        """Calls that wait to be let in."""
        return sum(not each.done() for each in self._waiting)

    def trouble(self) -> Trouble | None:
        """What keeps calls from being made or from succeeding; None when nothing does."""
        if self._outage is not None:
            return self._outage
        left_s = self._paused_until - self._now()
        if left_s > 0:
            return Trouble(
                TroubleKind.BUSY, f"the model server is busy, next call in {left_s:.1f} s: {self._refused_why}"
            )
        latest = self._unsteady if self._refused_since is None else self._refused_why
        return None if latest is None else Trouble(TroubleKind.UNSTEADY, latest)

    def listen(self, hear: TroubleListener) -> None:
        """Has outages and their ends told to `hear`."""
        self._hear = hear

    # -- calls --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Call]:
        """One call, from when it may be made until it has ended."""
        call = await self._enter()
        try:
            yield call
        finally:
            self._calls.discard(call)
            self._let_in()

    def took(self, call: Call) -> None:
        """The server has begun to answer `call`."""
        if call.is_taken:
            return
        call.is_taken = True
        self._is_there(call)
        is_over = (
            self._refused_since is not None and not self._is_told
        )  # it refused for no time in particular, and takes again
        self._refused_since = None
        limit = self._limit_now()
        grown = max(self._window, min(limit, self._window + 1.0))
        self._window = max(grown, limit / 2) if is_over else grown
        metrics.WINDOW.set(int(self._window))
        if self._is_slow and self._now() - self._slowed_at > _CALM_S:
            self._is_slow = False
            log.warning("model_server_keeps_up_again")
        self._let_in()

    def answered(self, call: Call) -> None:
        """The server is there and has done as it was asked. An outage ends by a trial: what began before it proves nothing."""
        if self._outage is None or call.is_trial:
            self._unsteady = None  # not before: it may begin each answer, and end none
        self._is_there(call)

    def _is_there(self, call: Call) -> None:
        if self._outage is None or call.is_trial:
            self._failures = 0
        if self._outage is None or not call.is_trial:
            return
        lasted_s = round(self._now() - self._outage_began, 1)
        log.warning("model_server_back", after=self._outage.kind.value, seconds=lasted_s)
        self._outage = None
        self._window, self._limit = 1.0, float(self._max_running)
        self._hear(None)
        self._let_in()

    def slow_down(self, call: Call, why: str, told_s: float | None) -> None:
        """The server refused `call` for now. Everyone pauses; what began before the latest pause is old news."""
        now = self._now()
        is_news = call.began >= self._slowed_at
        self._refused_why = why
        # A refusal comes at once, so a call that began before this one and still runs has been taken.
        taken = sum(each.is_taken or each.began < call.began for each in self._calls if each is not call)
        if self._refused_since is None:  # the first since a call was taken: so many were too many
            self._refused_since, self._is_told = now, told_s is not None
            if told_s is None:
                self._limit = max(taken, self._limit_now() / 2, 1.0)
        if is_news:
            self._slowed_at = now
            self._window = max(taken, self._window / 2, 1.0)
            metrics.WINDOW.set(int(self._window))
        if told_s is not None:
            self._pause(min(told_s, self._pace.longest_told_s))
        elif is_news:
            self._pause(self._pause_s(self._refused_since, longest_s=self._pace.longest_pause_s))
        if not self._is_slow:
            self._is_slow = True
            log.warning("model_server_busy", why=why, asked_s=told_s)

    def rest(self, pause_s: float, why: str) -> None:
        """Everyone pauses before the server has to refuse."""
        self._refused_why = why
        self._pause(pause_s)

    def failed(self, call: Call, why: str) -> None:
        """`call` failed for a reason that will pass; several in a row that began no answer, and the server is away."""
        self._unsteady = why
        if call.is_taken:
            return
        self._failures += 1
        if self._failures >= self._pace.failures_until_away:
            self.is_away(call, why)

    def is_away(self, call: Call, why: str, told_s: float | None = None) -> None:
        """The server can't be reached, or does nothing but fail."""
        if told_s is not None:
            self._paused_until = max(self._paused_until, self._now() + min(told_s, self._pace.longest_told_s))
        self._begin_outage(call, Trouble(TroubleKind.AWAY, why))

    def bar(self, call: Call, why: str, setting: str) -> None:
        """A setting or an account is at fault: nothing is called until a trial succeeds."""
        self._begin_outage(call, Trouble(TroubleKind.BARRED, why, setting))

    async def stop(self) -> None:
        """Ends the recovery and the timer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _begin_outage(self, call: Call, trouble: Trouble) -> None:
        was = self._outage
        if was is not None and not call.is_trial:
            return  # it began before the outage did
        self._outage = trouble
        if was is None or (was.kind, was.setting) != (trouble.kind, trouble.setting):
            self._outage_began = self._now()
            log.warning("model_server_" + trouble.kind.value, why=trouble.why, setting=trouble.setting or None)
            self._hear(trouble)
        if self._recovery is None or self._recovery.done():
            self._recovery = asyncio.create_task(self._recover(), name="model server recovery")

    async def _recover(self) -> None:
        """Tries the server now and then until it answers."""
        while self._outage is not None:
            await asyncio.sleep(max(self._paused_until - self._now(), self._recheck_s(self._outage)))
            await self._try_once(Call(self._now(), is_trial=True))

    def _recheck_s(self, outage: Trouble) -> float:
        pace = self._pace
        if outage.kind is TroubleKind.AWAY:
            return self._pause_s(self._outage_began, longest_s=pace.longest_pause_s)
        return min(
            pace.longest_recheck_s,
            max(
                _RECHECK_FLOOR * pace.shortest_pause_s,
                self._pause_s(self._outage_began, longest_s=pace.longest_recheck_s),
            ),
        )

    def _pause_s(self, since: float, *, longest_s: float) -> float:
        pause_s = min(longest_s, max(self._pace.shortest_pause_s, _SHARE * (self._now() - since)))
        return pause_s * self._rng.uniform(0.5, 1.0)  # so that many decoders don't come back as one

    def _pause(self, pause_s: float) -> None:
        self._paused_until = max(self._paused_until, self._now() + pause_s)
        metrics.PAUSES.inc()
        if self._timer is not None:
            self._timer.cancel()
        # A loop's timer may fire a little early.
        self._timer = asyncio.get_running_loop().call_at(self._paused_until + 0.001, self._let_in)

    async def _enter(self) -> Call:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._let_in()
        try:
            await turn
            call = Call(self._now())
            self._calls.add(call)
            return call
        finally:
            if turn.done() and not turn.cancelled():
                self._num_entering -= 1
                self._let_in()  # where it was let in and does not come, the next may

    def _let_in(self) -> None:
        """Lets in as many as may run now."""
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._num_entering += 1

    def _limit_now(self) -> float:
        quiet_s = min(60.0, self._now() - self._slowed_at)
        return min(float(self._max_running), self._limit * math.pow(2.0, quiet_s / _DOUBLING_S))

    def _has_room(self) -> bool:
        if self._outage is not None or self._now() < self._paused_until:
            return False
        return len(self._calls) + self._num_entering < max(1, int(self._window))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
