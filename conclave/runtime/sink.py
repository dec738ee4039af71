"""The recorder's consumer: batches of events into a store that keeps the offsets itself, in the same transaction.

The same idea as a lane's, in SQL: claiming a partition raises its epoch, so a former owner's transaction changes nothing.

What the store can't take is a dead letter of the sink's, whoever guards the topic: its guardian may have taken it. A store that
takes nothing, whatever it is given (a full disk, a missing table), is away, and is waited for.
"""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import structlog
from prometheus_client import Gauge

from conclave.domain.recorded import RecordedEvent
from conclave.errors import Fenced, LostDependency, Rejected
from conclave.runtime import dead_letters, metrics
from conclave.runtime.attempts import Dependencies
from conclave.runtime.broker import Broker, PlainProducer
from conclave.runtime.clock import ClockMs, wall_clock_ms
from conclave.runtime.member import Member
from conclave.runtime.pace import Pace
from conclave.runtime.record import Record, Tp, coordinates
from conclave.runtime.settings import RuntimeSettings
from conclave.runtime.translation import Translator, attributes
from schemas import flow
from schemas.codec import UnreadableEvent
from schemas.envelope import header

_MAINTAIN_EVERY_S = 3600.0
_MAINTAIN_AGAIN_S = (5.0, 300.0)  # after it failed: at first, and at most
_IDLE_S = 0.2  # while no partition is this process's
_AWAY_S = 0.5  # while the store or the broker is away
_MUCH = 4  # a batch of this part of the most that is read at once is followed by the next one at once
_QUOTED = re.compile(r"""["'].*["']|: .*""", re.DOTALL)  # how messages of PostgreSQL's and Python's tell of values

log = structlog.get_logger(__name__)


class Store(Protocol):
    """Where a sink writes. All methods raise LostDependency while the store is away, or in no state to take anything."""

    async def claim(self, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Takes the partitions over from whoever held them; the offset at which each goes on."""
        ...

    async def write(self, batch: Sequence[RecordedEvent], offsets: Mapping[tuple[str, int], int]) -> int:
        """Rows written with the offsets, in one transaction.

        Raises: Fenced when a partition was claimed by another; anything else than LostDependency for what it can't take.
        """
        ...

    async def maintain(self, now_ms: int) -> None:
        """Housekeeping, at the start and every hour."""
        ...


class Sink:
    """The consumer of a service that only writes."""

    def __init__(
        self,
        name: str,
        settings: RuntimeSettings,
        store: Store,
        dependencies: Dependencies,
        broker: Broker,
        *,
        clock_ms: ClockMs = wall_clock_ms,
        batch: int = 2000,
        pace: Pace = Pace(),  # noqa: B008  (frozen)
    ) -> None:
        self._pace = pace
        self._name, self._store, self._dependencies, self._batch = name, store, dependencies, batch
        self._translator = Translator(name, clock_ms)
        self._member = Member(name, settings, broker, dependencies, self._on_revoked, self._on_assigned)
        self._broker = broker
        self._producer: PlainProducer | None = None  # once there has been a dead letter
        self._assigned: frozenset[Tp] = frozenset()
        self._claimed: dict[Tp, int] = {}  # next offset to store
        self._lags: dict[Tp, Gauge] = {}
        self._next_write = 0.0  # on the event loop's clock: what has come by then is written together

    @property
    def is_ready(self) -> bool:
        """True while every assigned partition is claimed and nothing that is needed is away."""
        return self._member.is_joined and self._assigned == frozenset(self._claimed)

    def stop(self) -> None:
        """Has `run` finish the batch in hand and return."""
        self._member.stop()

    async def run(self) -> None:
        """Consumes until `stop`, and finishes the batch in hand; one that takes too long is done again by whoever comes next.

        All of that is over `drain_s` after `stop` (conclave.runtime.stopping).
        """
        await self._member.join()
        try:
            async with asyncio.TaskGroup() as tasks:
                upkeep = tasks.create_task(self._maintain(), name="maintain")
                steps = tasks.create_task(self._steps(), name="steps")
                await self._member.until_stopped()
                left_s = self._member.stop_times.flushed_by - asyncio.get_running_loop().time()
                await asyncio.wait({steps}, timeout=max(0.0, left_s))
                steps.cancel()
                upkeep.cancel()
        finally:
            await self._member.leave()
            if self._producer is not None:
                await self._producer.stop()

    async def _on_revoked(self, revoked: Collection[Tp]) -> None:
        self._claimed.clear()

    async def _on_assigned(self, assigned: Collection[Tp]) -> None:
        self._assigned = frozenset(assigned)
        self._claimed.clear()
        for tp in self._lags.keys() - self._assigned:
            del self._lags[tp]
            with contextlib.suppress(KeyError):
                metrics.LAG.remove(tp.topic, str(tp.partition))
        log.info("assigned", partitions=sorted(str(tp) for tp in assigned))

    async def _steps(self) -> None:
        while not self._member.is_stopping:
            await self._step()

    async def _step(self) -> None:
        try:
            if self._assigned != frozenset(self._claimed):
                await self._claim(self._assigned)
            if not self._claimed:
                await self._member.pause(_IDLE_S)
                return
            await self._company()
            records = await self._member.consumer.poll(
                list(self._claimed), timeout_ms=self._pace.idle_poll_ms, max_records=self._batch
            )
            if records:
                await self._write([record for record in records if Tp(record.topic, record.partition) in self._claimed])
            self._measure()
            # Not as soon as it is claimed: that works while a table is missing, or a disk is full.
            self._dependencies.back("postgres")
        except LostDependency as error:
            self._dependencies.lost(error.dependency, error.why)
            self._claimed.clear()
            self._member.consumer.touch()
            await self._member.pause(_AWAY_S)
        except Fenced:
            log.warning("sink_fenced")
            self._claimed.clear()

    async def _company(self) -> None:
        """Returns once the next write is due, or at once when told to stop."""
        left_s = self._next_write - asyncio.get_running_loop().time()
        if left_s > 0:
            await self._member.pause(left_s)

    async def _claim(self, assigned: frozenset[Tp]) -> None:
        if not await self._member.consumer.is_member():
            raise LostDependency("kafka", "not a member of the group")
        positions = await self._store.claim(list(assigned))
        if assigned != self._assigned:
            return
        for tp in assigned:
            self._member.consumer.seek(tp, positions[tp])
        self._claimed = {tp: positions[tp] for tp in assigned}
        self._dependencies.back("kafka")

    async def _write(self, records: Sequence[Record]) -> None:
        started, is_much = time.perf_counter(), len(records) >= self._batch // _MUCH
        self._next_write = 0.0 if is_much else asyncio.get_running_loop().time() + self._pace.between_writes_s
        batch = [event for record in records if (event := await self._read(record)) is not None]
        positions: dict[tuple[str, int], int] = {}
        for record in records:
            positions[record.topic, record.partition] = record.offset + 1
        num_rows = await self._record(batch, positions, {coordinates(record): record for record in records})
        self._claimed |= {Tp(*at): offset for at, offset in positions.items() if Tp(*at) in self._claimed}
        metrics.TRANSACTION_SECONDS.observe(time.perf_counter() - started)
        metrics.TRANSACTION_RECORDS.observe(len(records))
        for topic, number in Counter(record.topic for record in records).items():
            metrics.messages(topic, "recorded").inc(number)
        log.info("batch_recorded", records=len(records), rows=num_rows)

    def _measure(self) -> None:
        """Tells what lies there and is not stored, as of the latest fetches."""
        for tp, offset in self._claimed.items():
            end = self._member.consumer.end_offset(tp)
            if end is not None:
                if tp not in self._lags:
                    self._lags[tp] = metrics.LAG.labels(tp.topic, str(tp.partition))
                self._lags[tp].set(0 if self._member.consumer.is_read_out(tp) else max(0, end - offset))

    async def _record(
        self, batch: Sequence[RecordedEvent], positions: Mapping[tuple[str, int], int], records: Mapping[str, Record]
    ) -> int:
        """Rows written. A batch that the store can't take is halved until the event at fault stands alone."""
        try:
            return await self._store.write(batch, positions)
        except (LostDependency, Fenced):
            raise
        except Exception as error:
            if len(batch) <= 1:
                for event in batch:
                    await self._refused(records[f"{event.topic}/{event.partition}/{event.offset}"], error)
                return await self._store.write([], positions)
            half = len(batch) // 2
            # Only the second half's transaction moves the offsets: a crash between redoes the first, which is idempotent.
            return await self._record(batch[:half], {}, records) + await self._record(batch[half:], positions, records)

    async def _read(self, record: Record) -> RecordedEvent | None:
        try:
            event = self._translator.read(record)
        except UnreadableEvent as error:
            await self._unreadable(record, error)
            return None
        headers = attributes(record)
        return RecordedEvent(
            event=event,
            event_id=header(headers, "ce_id") or coordinates(record),
            key=(record.key or b"").decode("utf-8", "replace"),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            recorded_ms=record.timestamp,
            traceparent=header(headers, "traceparent"),
            event_source=header(headers, "ce_source") or "",
        )

    async def _unreadable(self, record: Record, error: UnreadableEvent) -> None:
        """Gives up what nobody can read. Only where this service guards the topic: its guardian dead-letters it otherwise."""
        _log_refused(record, error)
        if flow.topic_row(record.topic).guardian == self._name:
            await self._give_up(record, error)

    async def _refused(self, record: Record, error: Exception) -> None:
        """Gives up what the store can't take, whoever guards the topic: nobody else would ever say that its rows are missing."""
        _log_refused(record, error)
        await self._give_up(record, error)

    async def _give_up(self, record: Record, error: Exception) -> None:
        """Dead-letters at least once: a crash before the offsets are stored repeats it, under the same coordinates.

        A broadcast topic has no dead letters: every replica reads it whole, and what lies there goes on lying there.
        """
        if flow.topic_row(record.topic).is_broadcast:
            return
        cause = dead_letters.cause_of(error)
        metrics.DEAD_LETTERS.labels(record.topic, cause.reason.value).inc()
        if self._producer is None:
            self._producer = await self._new_producer()
        await self._producer.publish(self._translator.dead_letters([record], cause))

    async def _new_producer(self) -> PlainProducer:
        producer = self._broker.plain_producer()
        try:
            await producer.start()
        except LostDependency:
            await producer.stop()
            raise
        return producer

    async def _maintain(self) -> None:
        """Keeps the store's house. What becomes of that says nothing of the store's being there: writing does."""
        again_s, most_s = _MAINTAIN_AGAIN_S
        while True:
            try:
                await self._store.maintain(self._translator.clock_ms())
                delay_s, (again_s, _) = _MAINTAIN_EVERY_S, _MAINTAIN_AGAIN_S
            except Exception as error:
                log.warning("upkeep_failed", error=type(error).__name__, why=_without_content(error))
                delay_s, again_s = again_s, min(most_s, 2 * again_s)
            await asyncio.sleep(delay_s)


def _log_refused(record: Record, error: Exception) -> None:
    metrics.messages(record.topic, "refused").inc()
    log.warning(
        "record_refused",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        error=type(error).__name__,
        why=_without_content(error),
    )


def _without_content(error: Exception) -> str:
    """What an error says, as far as that is not what a record or a row says: its dead letter tells that."""
    match error:
        case UnreadableEvent():
            return error.defect.value
        case LostDependency():
            return error.why
        case Rejected():
            return f"{error.field}: expected {error.expected}"
    said = str(error.args[0]).partition("\n")[0] if error.args else ""
    return _QUOTED.sub("…", said)[:200]
