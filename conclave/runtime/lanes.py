"""The lanes that this process holds: which it takes on, keeps and lets go of as its group is rebalanced."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator
from functools import cached_property

import structlog
from prometheus_client import Gauge

from conclave.errors import LostDependency
from conclave.runtime import metrics
from conclave.runtime.broker import GroupConsumer
from conclave.runtime.lane import Lane
from conclave.runtime.record import Tp

# A transaction takes milliseconds; one that takes longer waits for a broker that is away.
_REVOKED_FLUSH_S = 3.0  # the whole group waits for this member's revocation (rebalance_timeout_ms, 30 s)
_FETCH_S = 2.0  # within which a fetch that began after a seek has returned

log = structlog.get_logger(__name__)


class _Gauges:
    """The gauges of one partition: to look them up by its labels takes longer than to set them."""

    def __init__(self, tp: Tp) -> None:
        self._labels = (tp.topic, str(tp.partition))
        self.span, self.open_events = metrics.SPAN.labels(*self._labels), metrics.OPEN_EVENTS.labels(*self._labels)

    @cached_property
    def lag(self) -> Gauge:
        """Told of only once it is known."""
        return metrics.LAG.labels(*self._labels)


class Lanes:
    """One service's lanes, by partition. `make` makes one that is not held yet; `on_gone` is told of one let go of."""

    def __init__(
        self,
        consumer: Callable[[], GroupConsumer],
        make: Callable[[Tp], Lane],
        on_gone: Callable[[Tp], None],
    ) -> None:
        self._consumer, self._make, self._on_gone = consumer, make, on_gone
        self._lanes: dict[Tp, Lane] = {}
        self._running: dict[Tp, asyncio.Task[None]] = {}
        self._gauges: dict[Tp, _Gauges] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))

    @property
    def are_ready(self) -> bool:
        """True while each admits, or waits for room."""
        return all(lane.is_ready and not lane.is_held for lane in self._lanes.values())

    def admitting(self) -> dict[Tp, Lane]:
        """Those whose records may be polled now."""
        return {tp: lane for tp, lane in self._lanes.items() if lane.is_admitting}

    def of(self, tp: Tp) -> Lane | None:
        """The lane of a partition, if this process holds it."""
        return self._lanes.get(tp)

    # -- life ---------------------------------------------------------------------------------------------------------

    def run_in(self, tasks: asyncio.TaskGroup) -> None:
        """Runs the lanes in `tasks`, from now on: those that an early rebalance brought, and those to come."""
        self._tasks = tasks
        for lane in self._lanes.values():
            self._start(lane)

    async def flush(self, limit_s: float) -> None:
        """Flushes what is finished, all lanes at once, within one limit: what is not flushed by then is done again by someone."""
        await self._flush(self, limit_s)

    def cancel(self, limit_s: float) -> None:
        """Ends all lanes' tasks, which close their connections within a limit."""
        for lane in self:
            lane.close_limit_s = limit_s
        for task in self._running.values():
            task.cancel()

    # -- rebalances ---------------------------------------------------------------------------------------------------

    async def revoke(self, revoked: Collection[Tp]) -> None:
        """Stops admitting and flushes what is finished, so that the next owner has less to do again. What runs goes on.

        The lanes are only held: most often this member gets its partitions back, and `assign` knows.
        """
        held = [lane for tp in revoked if (lane := self._lanes.get(tp))]
        for lane in held:
            lane.is_held = True
        await self._flush(held, _REVOKED_FLUSH_S)

    def assign(self, assigned: Collection[Tp]) -> None:
        """Takes on what is new, goes on with what is kept, opens anew what may have been another's, lets go of the rest."""
        membership = self._consumer().membership()
        for tp in [tp for tp in self._lanes if tp not in assigned]:
            self._let_go(tp)
        for tp in assigned:
            lane = self._lanes.get(tp)
            if lane is None:
                lane = self._take_on(tp)
            elif lane.is_ready and lane.membership is not None and membership.follows(lane.membership):
                # Member of both generations, so nobody else held the partition in between: go on where polling stopped.
                self._consumer().seek(tp, lane.tracker.next_offset)
                lane.is_held = False
            else:
                lane.is_held = False
                lane.reopen()
            lane.membership = membership
        log.info("assigned", generation=membership.generation, partitions=sorted(str(tp) for tp in assigned))

    async def note_read_back(self, lane: Lane) -> None:
        """Notes once all that the log had when the lane was opened is read: what a group lacks then, it lacks for good."""
        if lane.groups is None or lane.groups.is_read_back:
            return
        if asyncio.get_running_loop().time() - lane.opened_at < _FETCH_S:
            return  # the end that the consumer knows may be of before
        lane.log_end = lane.log_end if lane.log_end is not None else self._consumer().end_offset(lane.tp)
        if lane.log_end is not None:
            with contextlib.suppress(LostDependency):
                position = await self._consumer().position(lane.tp)
                lane.groups.is_read_back = lane.is_ready and position >= lane.log_end

    def measure(self) -> None:
        """Sets the gauges of all lanes."""
        for tp, lane in self._lanes.items():
            gauges = self._gauges.get(tp)
            if gauges is None:
                gauges = self._gauges[tp] = _Gauges(tp)
            gauges.span.set(lane.tracker.span)
            gauges.open_events.set(len(lane.tracker.running))
            end = self._consumer().end_offset(tp) if lane.is_ready else None
            if end is not None:
                is_done = not lane.tracker.span and self._consumer().is_read_out(tp)
                gauges.lag.set(0 if is_done else max(0, end - lane.tracker.low))

    def _take_on(self, tp: Tp) -> Lane:
        lane = self._lanes[tp] = self._make(tp)
        if self._tasks is not None:
            self._start(lane)
        return lane

    def _start(self, lane: Lane) -> None:
        assert self._tasks is not None
        self._running[lane.tp] = self._tasks.create_task(lane.run(), name=f"lane {lane.tp}")

    def _let_go(self, tp: Tp) -> None:
        self._lanes.pop(tp)
        self._gauges.pop(tp, None)
        self._on_gone(tp)
        task = self._running.pop(tp, None)
        if task is not None:
            task.cancel()
        for gauge in (metrics.LAG, metrics.SPAN, metrics.OPEN_EVENTS):
            with contextlib.suppress(KeyError):
                gauge.remove(tp.topic, str(tp.partition))

    @staticmethod
    async def _flush(lanes: "Collection[Lane] | Lanes", limit_s: float) -> None:
        async with asyncio.TaskGroup() as flushes:
            for lane in lanes:
                if lane.is_ready:
                    flushes.create_task(lane.until_flushed(limit_s))
