"""A service's consumer: polls its lanes, hands events to the handler or joiner, and keeps what runs within bounds.

    poll ─→ admit ─→ handler, concurrently ──→ completion ─→ lane's outbox ─→ flush (one transaction)
                 └─→ group ─→ joiner decides ─┘

Nothing is polled while there is no room: the broker keeps the rest, and one fetch per partition waits in memory.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection

import structlog

from conclave.runtime import metrics
from conclave.runtime.attempts import Dependencies
from conclave.runtime.broker import Broker
from conclave.runtime.clock import ClockMs, wall_clock_ms
from conclave.runtime.delivery import Delivery
from conclave.runtime.duplicates import Duplicates
from conclave.runtime.endings import Ending, Endings
from conclave.runtime.groups import Groups
from conclave.runtime.handling import Handling
from conclave.runtime.joining import Joining
from conclave.runtime.lane import Lane
from conclave.runtime.lanes import Lanes
from conclave.runtime.member import Member
from conclave.runtime.pace import Pace
from conclave.runtime.record import Completion, Record, Tp, located
from conclave.runtime.settings import RuntimeSettings
from conclave.runtime.translation import Translator
from conclave.runtime.work import Handles, Joins, Work
from schemas.codec import UnreadableEvent

_MAX_POLLED = 500  # records at once: what is admitted between two looks at the rest of the loop
_DRAIN_LOOK_S = 0.1
_REVOKED_HAND_ON_S, _HAND_ON_LOOK_S = 1.0, 0.01  # the whole group waits for this member's revocation

log = structlog.get_logger(__name__)


class Service:
    """The consumer of one service in this process."""

    def __init__(
        self,
        name: str,
        settings: RuntimeSettings,
        work: Work,
        dependencies: Dependencies,
        broker: Broker,
        *,
        clock_ms: ClockMs = wall_clock_ms,
        rng: random.Random | None = None,
        pace: Pace = Pace(),  # noqa: B008  (frozen)
    ) -> None:
        self._settings, self._work, self._broker, self._pace = settings, work, broker, pace
        self._translator = Translator(name, clock_ms)
        self._changed = asyncio.Event()
        self._member = Member(name, settings, broker, dependencies, self._on_revoked, self._on_assigned)
        request_key = work.request_key if isinstance(work, Handles) else None
        self._duplicates = Duplicates(broker, self._translator, request_key, settings.duplicate_window)
        self._lanes = Lanes(lambda: self._member.consumer, self._new_lane, self._duplicates.forget)
        self._endings = (
            Endings(self._translator, handler=work.handler)
            if isinstance(work, Handles)
            else Endings(self._translator, joiner=work.joiner)
        )
        self._joining = Joining(
            self._endings, clock_ms, carry_after_s=settings.carry_after_s, carry_span=settings.carry_span
        )
        self._handling = (
            Handling(
                settings, work, self._translator, self._endings, dependencies, on_change=self._changed.set, rng=rng
            )
            if isinstance(work, Handles)
            else None
        )

    @property
    def is_ready(self) -> bool:
        """True while the service is in its group and every lane that it holds admits or waits for room."""
        return self._member.is_joined and self._lanes.are_ready

    @property
    def partitions(self) -> frozenset[Tp]:
        """The partitions that it holds."""
        return frozenset(lane.tp for lane in self._lanes)

    def is_durable(self, coordinates: str) -> bool:
        """True once what was made of a record that was read is in the log, or the record is another's to handle."""
        tp, offset = located(coordinates)
        lane = self._lanes.of(tp)
        return lane is None or offset not in lane.tracker.running

    def stop(self) -> None:
        """Has `run` drain and return."""
        self._member.stop()
        self._changed.set()

    async def run(self) -> None:
        """Consumes until `stop`, then drains: running work is waited for and then handed on, finished work flushed, the group left.

        All of that is over `drain_s` after `stop` (conclave.runtime.stopping).
        """
        await self._member.join()
        async with asyncio.TaskGroup() as tasks:
            ticker = tasks.create_task(self._tick(), name="tick")
            self._lanes.run_in(tasks)
            await self._consume(tasks)
            if isinstance(self._work, Handles):
                self._work.drain()
            await self._drain()
            ticker.cancel()
            self._lanes.cancel(self._left_s(self._member.stop_times.closed_by))
        await self._member.leave()

    async def _drain(self) -> None:
        times = self._member.stop_times
        while self._num_running and (left_s := self._left_s(times.cut_at)):
            await self._until_changed(min(_DRAIN_LOOK_S, left_s))
        if self._num_running and isinstance(self._work, Handles):
            self._work.hand_on(True)
        while self._num_running and (left_s := self._left_s(times.ended_by)):
            await self._until_changed(min(_DRAIN_LOOK_S, left_s))
        await self._lanes.flush(self._left_s(times.flushed_by))
        log.info("drained", running=self._num_running)

    @staticmethod
    def _left_s(until: float) -> float:
        return max(0.0, until - asyncio.get_running_loop().time())

    # -- partitions ---------------------------------------------------------------------------------------------------

    async def _on_revoked(self, revoked: Collection[Tp]) -> None:
        if isinstance(self._work, Handles):
            await self._until_handed_on(self._work.hand_on(False))
        await self._lanes.revoke(revoked)

    async def _until_handed_on(self, is_done: Callable[[], bool]) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + _REVOKED_HAND_ON_S
        while not is_done() and clock() < deadline:
            await self._until_changed(_HAND_ON_LOOK_S)

    async def _on_assigned(self, assigned: Collection[Tp]) -> None:
        self._lanes.assign(assigned)
        self._changed.set()

    def _new_lane(self, tp: Tp) -> Lane:
        return Lane(
            tp,
            consumer_group=self._member.name,
            broker=self._broker,
            consumer=self._member.consumer,
            groups=Groups(self._work.joiner) if isinstance(self._work, Joins) else None,
            prepare=self._duplicates.read_back,
            on_change=self._changed.set,
        )

    # -- records ------------------------------------------------------------------------------------------------------

    async def _consume(self, tasks: asyncio.TaskGroup) -> None:
        while not self._member.is_stopping:
            lanes = self._lanes.admitting()
            room = min((lane.tracker.room for lane in lanes.values()), default=0)
            if self._handling is not None:
                room = min(room, self._handling.room)
            if room <= 0:
                self._member.consumer.touch()
                await self._until_changed(self._pace.tick_s)
                continue
            records = await self._member.consumer.poll(
                list(lanes), timeout_ms=self._pace.idle_poll_ms, max_records=min(room, _MAX_POLLED)
            )
            self._admit_all(tasks, records)
            # Under a steady stream poll never waits: let the handlers and flushers in.
            await asyncio.sleep(0)

    def _admit_all(self, tasks: asyncio.TaskGroup, records: list[Record]) -> None:
        touched: dict[tuple[Tp, str], Lane] = {}
        for record in records:
            lane = self._lanes.of(Tp(record.topic, record.partition))
            if lane is None or not lane.is_admitting:
                continue  # it was revoked or fenced meanwhile: whoever opens the lane next reads the record again
            key = self._admit(tasks, Delivery(lane, record))
            if key is not None:
                touched[lane.tp, key] = lane
        for (_, key), lane in touched.items():
            self._joining.touch(lane, key)

    def _admit(self, tasks: asyncio.TaskGroup, delivery: Delivery) -> str | None:
        """The key of the group that was touched, for a joiner."""
        lane, record = delivery.lane, delivery.record
        is_duplicate = self._duplicates.is_one(lane.tp, record)
        if not lane.tracker.admit(record.offset):
            metrics.REDELIVERED.labels(record.topic).inc()
            return None
        if is_duplicate:
            delivery.done(Ending("duplicate", Completion((record.offset,))))
            return None
        try:
            event = self._translator.read(record)
        except UnreadableEvent as error:
            delivery.done(self._endings.unreadable(record, error, known=self._duplicates.seen(lane.tp)))
            return None
        if self._handling is None:
            return self._joining.add(lane, record, event)
        self._handling.take(tasks, delivery, event)
        return None

    # -- time ---------------------------------------------------------------------------------------------------------

    @property
    def _num_running(self) -> int:
        return self._handling.num_running if self._handling is not None else 0

    async def _tick(self) -> None:
        """Joins groups whose time has come, carries forward those that hold the watermark back, measures."""
        while True:
            await asyncio.sleep(self._pace.tick_s)
            now_ms = self._translator.clock_ms()
            for lane in self._lanes:
                if lane.is_ready and not lane.is_held:
                    await self._lanes.note_read_back(lane)
                    self._joining.touch_due(lane, now_ms)
            self._lanes.measure()

    async def _until_changed(self, limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._changed.wait()
        self._changed.clear()
