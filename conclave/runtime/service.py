"""A service's consumer: polls its lanes, hands events to the handler or joiner, and keeps what runs within bounds.

    poll ─→ admit ─→ handler, concurrently ──→ completion ─→ lane's outbox ─→ flush (one transaction)
                 └─→ group ─→ joiner decides ─┘

Nothing is polled while there is no room: the broker keeps the rest, and one fetch per partition waits in memory.
"""

import asyncio
import contextlib
import random
from collections.abc import Collection

import structlog

from conclave.errors import LostDependency, Rejected
from conclave.runtime import dead_letters, metrics
from conclave.runtime.attempts import Dependencies
from conclave.runtime.broker import Broker, GroupConsumer, Rebalance
from conclave.runtime.clock import ClockMs, wall_clock_ms
from conclave.runtime.deduplication import Window
from conclave.runtime.endings import Ending, Endings
from conclave.runtime.groups import Groups
from conclave.runtime.handling import Handling, Work, finish
from conclave.runtime.intake import Publisher
from conclave.runtime.joining import Joining
from conclave.runtime.lane import Lane
from conclave.runtime.record import Completion, Record, Tp
from conclave.runtime.settings import RuntimeSettings
from schemas import flow
from schemas.codec import UnreadableEvent
from schemas.envelope import header

_POLL_MS = 200  # how long an idle poll lasts, and so how late a stop is noticed at most
_TICK_S = 0.2  # how late a group whose time has come is joined at most
# The whole group waits for this member's revocation (rebalance_timeout_ms, 30 s), and a transaction takes milliseconds.
_REVOKED_FLUSH_S = 3.0
_LAST_FLUSH_S = 5.0  # a transaction takes milliseconds; one that takes longer waits for a broker that is away
_FETCH_S = 2.0  # within which a fetch that began after a seek has returned

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
    ) -> None:
        row = flow.service_row(name)
        self._name, self._settings, self._work_spec = name, settings, work
        self._topics = [topic.value for topic in row.consumes]
        self._publisher = Publisher(name, clock_ms)
        self._dependencies, self._broker = dependencies, broker
        self._consumer = self._new_consumer()
        self._lanes: dict[Tp, Lane] = {}
        self._lane_tasks: dict[Tp, asyncio.Task[None]] = {}
        self._windows: dict[Tp, Window] = {}
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._endings = Endings(self._publisher, handler=work.handler, joiner=work.joiner)
        self._joining = Joining(
            self._endings,
            self._publisher.clock_ms,
            carry_after_s=settings.carry_after_s,
            carry_span=settings.carry_span,
        )
        self._handling = Handling(
            settings,
            work,
            self._publisher,
            self._endings,
            dependencies,
            may_start=lambda lane: self._lanes.get(lane.tp) is lane and not self._stopping.is_set(),
            on_change=self._changed.set,
            rng=rng,
        )
        self._tasks: asyncio.TaskGroup | None = None
        self.is_joined = False

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """True while the service is in its group and every lane that it holds admits or waits for room."""
        lanes = self._lanes.values()
        return (
            self.is_joined and not self._stopping.is_set() and all(lane.is_ready and not lane.is_held for lane in lanes)
        )

    def stop(self) -> None:
        """Has `run` drain and return."""
        self._stopping.set()
        self._changed.set()

    async def run(self) -> None:
        """Consumes until `stop`, then drains: running work is waited for, finished work flushed, the rest left undone."""
        await self._join_group()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            ticker = tasks.create_task(self._tick(), name="tick")
            # Lanes that the first rebalance brought before this group existed start now.
            for lane in self._lanes.values():
                self._start(lane)
            await self._consume()
            await self._drain()
            ticker.cancel()
            for task in self._lane_tasks.values():
                task.cancel()
        await self._consumer.stop()

    async def _join_group(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._consumer.start(self._topics, Rebalance(self._on_revoked, self._on_assigned))
                self._dependencies.back("kafka")
                return
            except LostDependency as error:
                self._dependencies.lost(error.dependency, error.why)
                await self._consumer.stop()
                self._consumer = self._new_consumer()
                await asyncio.sleep(1.0)

    def _new_consumer(self) -> GroupConsumer:
        return self._broker.group_consumer(
            self._name,
            f"conclave-{self._name}",
            session_timeout_ms=self._settings.session_timeout_ms,
            max_poll_interval_ms=self._settings.max_poll_interval_ms,
        )

    async def _drain(self) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._settings.drain_s
        while self._handling.num_running and clock() < deadline:
            await self._until_changed(0.1)
        # All lanes at once, and not for long: unflushed work is simply done again by someone.
        async with asyncio.TaskGroup() as flushes:
            for lane in self._lanes.values():
                if lane.is_ready:
                    flushes.create_task(lane.until_flushed(_LAST_FLUSH_S))
        log.info("drained", running=self._handling.num_running)

    # -- partitions ---------------------------------------------------------------------------------------------------

    async def _on_revoked(self, revoked: Collection[Tp]) -> None:
        """Stops admitting and flushes what is finished, so that the next owner has less to do again. What runs goes on.

        The lanes are only held: most often this member gets its partitions back, and `_on_assigned` knows.
        """
        held = [lane for tp in revoked if (lane := self._lanes.get(tp))]
        for lane in held:
            lane.is_held = True
        async with asyncio.TaskGroup() as flushes:
            for lane in held:
                if lane.is_ready:
                    flushes.create_task(lane.until_flushed(_REVOKED_FLUSH_S))

    async def _on_assigned(self, assigned: Collection[Tp]) -> None:
        generation = self._consumer.membership().generation
        for tp in [tp for tp in self._lanes if tp not in assigned]:
            self._let_go(tp)
        for tp in assigned:
            lane = self._lanes.get(tp)
            if lane is None:
                self._take_on(tp)
            elif lane.is_ready and generation == lane.generation + 1:
                # Member of both generations, so nobody else held the partition in between: go on where polling stopped.
                self._consumer.seek(tp, lane.tracker.next_offset)
                lane.is_held = False
            else:
                lane.is_held = False
                lane.reopen()
            self._lanes[tp].generation = generation
        self.is_joined = True
        self._changed.set()
        log.info("assigned", generation=generation, partitions=sorted(str(tp) for tp in assigned))

    def _take_on(self, tp: Tp) -> None:
        lane = self._lanes[tp] = Lane(
            tp,
            group=self._name,
            broker=self._broker,
            consumer=self._consumer,
            groups=Groups(self._work_spec.joiner) if self._work_spec.joiner else None,
            prepare=self._read_window,
            on_change=self._changed.set,
        )
        if self._tasks is not None:
            self._start(lane)

    def _start(self, lane: Lane) -> None:
        assert self._tasks is not None
        self._lane_tasks[lane.tp] = self._tasks.create_task(lane.run(), name=f"lane {lane.tp}")

    def _let_go(self, tp: Tp) -> None:
        self._lanes.pop(tp)
        self._windows.pop(tp, None)
        task = self._lane_tasks.pop(tp, None)
        if task is not None:
            task.cancel()
        for gauge in (metrics.LAG, metrics.SPAN, metrics.OPEN_EVENTS):
            with contextlib.suppress(KeyError):
                gauge.remove(tp.topic, str(tp.partition))

    async def _read_window(self, lane: Lane) -> None:
        """Reads the ids of the latest records below the watermark back from the log."""
        key_of, size = self._work_spec.request_key, self._settings.duplicate_window
        if key_of is None or size == 0:
            return
        # Kept when the lane opens again: what it holds of records above the watermark is not read back.
        window = self._windows.setdefault(lane.tp, Window(size))
        reader = self._broker.log_reader()
        try:
            await reader.start()
            begin = max((await reader.begin_offsets([lane.tp]))[lane.tp], lane.tracker.low - size)
            reader.assign({lane.tp: begin})
            while await reader.position(lane.tp) < lane.tracker.low:
                for record in await reader.poll(timeout_ms=_POLL_MS):
                    if record.offset < lane.tracker.low:
                        self._note_key(window, record)
        finally:
            await reader.stop()

    # -- records ------------------------------------------------------------------------------------------------------

    async def _consume(self) -> None:
        while not self._stopping.is_set():
            partitions = [tp for tp, lane in self._lanes.items() if lane.is_admitting]
            room = min((self._lanes[tp].tracker.room for tp in partitions), default=0)
            if self._work_spec.handler is not None:
                room = min(room, self._handling.room)
            if room <= 0:
                self._consumer.touch()
                await self._until_changed(_TICK_S)
                continue
            records = await self._consumer.poll(partitions, timeout_ms=_POLL_MS, max_records=min(room, 500))
            self._admit_all(records)
            # Under a steady stream poll never waits: let the handlers and flushers in.
            await asyncio.sleep(0)

    def _admit_all(self, records: list[Record]) -> None:
        touched: dict[tuple[Tp, str], Lane] = {}
        for record in records:
            lane = self._lanes.get(Tp(record.topic, record.partition))
            if lane is None or not lane.is_admitting:
                continue  # it was revoked or fenced meanwhile: whoever opens the lane next reads the record again
            key = self._admit(lane, record)
            if key is not None:
                touched[lane.tp, key] = lane
        for (_, key), lane in touched.items():
            self._joining.join(lane, key)

    def _admit(self, lane: Lane, record: Record) -> str | None:
        """The key of the group that has to be joined now, for a joiner."""
        window = self._windows.get(lane.tp)
        is_duplicate = window is not None and self._note_key(window, record)
        if not lane.tracker.admit(record.offset):
            metrics.REDELIVERED.labels(record.topic).inc()
            return None
        if is_duplicate:
            finish(lane, record, Ending("duplicate", Completion((record.offset,))))
            return None
        try:
            event = self._publisher.read(record)
        except UnreadableEvent as error:
            finish(lane, record, self._endings.unreadable(record, error, known=window or ()))
            return None
        if lane.groups is not None:
            return self._joining.add(lane, record, event)
        assert self._tasks is not None
        self._handling.take(self._tasks, lane, record, event)
        return None

    def _note_key(self, window: Window, record: Record) -> bool:
        """True when the record repeats an earlier one. A replayed dead letter is a request of its own."""
        key_of = self._work_spec.request_key
        if key_of is None:
            return False
        try:
            key = key_of(self._publisher.read(record), self._publisher.arrival(record))
        except (UnreadableEvent, Rejected):
            return False
        replayed = header(record.headers, dead_letters.REPLAY_HEADER) or ""
        return key is not None and window.note(key + replayed, record.offset)

    async def _tick(self) -> None:
        """Joins groups whose time has come, carries forward those that hold the watermark back, measures."""
        while True:
            await asyncio.sleep(_TICK_S)
            now_ms = self._publisher.clock_ms()
            for lane in list(self._lanes.values()):
                if lane.is_ready and not lane.is_held:
                    await self._note_read_back(lane)
                    self._joining.join_due(lane, now_ms)
                self._measure(lane)

    async def _note_read_back(self, lane: Lane) -> None:
        """Notes once all that the log had when the lane was opened is read: what a group lacks then, it lacks for good."""
        if lane.groups is None or lane.groups.is_read_back:
            return
        if asyncio.get_running_loop().time() - lane.opened_at < _FETCH_S:
            return  # the end that the consumer knows may be of before
        lane.log_end = lane.log_end if lane.log_end is not None else self._consumer.end_offset(lane.tp)
        if lane.log_end is not None:
            with contextlib.suppress(LostDependency):
                position = await self._consumer.position(lane.tp)
                lane.groups.is_read_back = lane.is_ready and position >= lane.log_end

    def _measure(self, lane: Lane) -> None:
        labels = (lane.tp.topic, str(lane.tp.partition))
        metrics.SPAN.labels(*labels).set(lane.tracker.span)
        metrics.OPEN_EVENTS.labels(*labels).set(len(lane.tracker.running))
        end = self._consumer.end_offset(lane.tp) if lane.is_ready else None
        if end is not None:
            metrics.LAG.labels(*labels).set(max(0, end - lane.tracker.low))

    async def _until_changed(self, limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._changed.wait()
        self._changed.clear()
