"""Puts events to a service's handler, concurrently and within bounds, each until there are outputs or a dead letter."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from conclave.errors import LostDependency, Rejected
from conclave.runtime import dead_letters, metrics
from conclave.runtime.attempts import Backoff, Dependencies
from conclave.runtime.endings import Ending, Endings
from conclave.runtime.handler import Arrival, Handler, Joiner
from conclave.runtime.intake import Publisher, RequestKey, event_id
from conclave.runtime.lane import Lane
from conclave.runtime.record import Record
from conclave.runtime.settings import RuntimeSettings
from schemas import flow
from schemas.events import Event

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """What a service does with its events: exactly one of `handler` and `joiner`."""

    handler: Handler | None = None
    joiner: Joiner | None = None
    is_ordered: bool = False  # of `handler`: the next event of a key starts when the previous one is finished
    request_key: RequestKey | None = None  # ids by which an event published twice is recognised
    may_take: Callable[[], bool] = lambda: True  # False while `handler` could do nothing with more events


class Handling:
    """The events that are being handled. At most `max_in_flight` hold a slot; one that waits to be tried again holds none."""

    def __init__(
        self,
        settings: RuntimeSettings,
        work: Work,
        publisher: Publisher,
        endings: Endings,
        dependencies: Dependencies,
        *,
        may_start: Callable[[Lane], bool],
        on_change: Callable[[], None],
        rng: random.Random | None = None,
    ) -> None:
        self._settings, self._work, self._publisher = settings, work, publisher
        self._endings, self._dependencies = endings, dependencies
        self._may_start, self._on_change = may_start, on_change
        self._backoff = Backoff(settings.retry_backoff_s)
        self._rng = rng or random.Random()
        self._queues: dict[str, deque[tuple[Lane, Record, Event]]] = {}
        self.num_running = 0

    @property
    def room(self) -> int:
        """How many more may be taken now."""
        if not self._work.may_take():
            return 0
        return self._settings.max_in_flight - self.num_running

    def take(self, tasks: asyncio.TaskGroup, lane: Lane, record: Record, event: Event) -> None:
        """Handles the event in `tasks`, after those of its key where order counts."""
        if not self._work.is_ordered:
            self._spawn(tasks, lane, record, event)
            return
        queue = self._queues.setdefault(flow.key_of(event), deque())
        queue.append((lane, record, event))
        if len(queue) == 1:
            self._spawn(tasks, lane, record, event)

    def _spawn(self, tasks: asyncio.TaskGroup, lane: Lane, record: Record, event: Event) -> None:
        self._count(1)
        task = tasks.create_task(self._handle(lane, record, event), name=f"{lane.tp}/{record.offset}")
        lane.work[record.offset] = task
        task.add_done_callback(lambda _: self._ended(tasks, lane, record, event))

    def _ended(self, tasks: asyncio.TaskGroup, lane: Lane, record: Record, event: Event) -> None:
        """Frees the slot, also of a task cancelled before its first step, and starts the key's next event."""
        lane.work.pop(record.offset, None)
        self._count(-1)
        self._on_change()
        if self._work.is_ordered:
            key = flow.key_of(event)
            queue = self._queues[key]
            queue.popleft()
            while queue and not self._may_start(queue[0][0]):
                queue.popleft()
            if queue:
                self._spawn(tasks, *queue[0])
            else:
                del self._queues[key]

    async def _handle(self, lane: Lane, record: Record, event: Event) -> None:
        attempt = 1
        while True:
            try:
                outputs = await self._attempt(event, self._publisher.arrival(record))
                finish(lane, record, self._endings.handled(record, event, outputs))
                return
            except LostDependency as error:
                self._dependencies.lost(error.dependency, error.why)
                await self._wait_slotless(min(5.0, self._backoff.delay_s(attempt, self._rng) + 0.1))
                continue
            except Exception as error:
                if isinstance(error, Rejected) or attempt >= self._settings.max_attempts:
                    cause = dead_letters.cause_of(error, attempt)
                    finish(lane, record, self._endings.failed(record, event, cause))
                    return
                log.warning(
                    "attempt_failed",
                    partition=str(lane.tp),
                    offset=record.offset,
                    attempt=attempt,
                    error=repr(error)[:500],
                )
            await self._wait_slotless(self._backoff.delay_s(attempt, self._rng))
            attempt += 1

    async def _attempt(self, event: Event, arrival: Arrival) -> list[Event]:
        assert self._work.handler is not None
        with metrics.HANDLE_SECONDS.labels(type(event).__name__).time():
            return list(await self._work.handler.handle(event, arrival))

    async def _wait_slotless(self, delay_s: float) -> None:
        """Waits without holding a slot: only the record's offset stays open (docs/decisions/0003)."""
        self._count(-1)
        self._on_change()
        try:
            await asyncio.sleep(delay_s)
        finally:
            self._count(1)

    def _count(self, change: int) -> None:
        self.num_running += change
        metrics.IN_FLIGHT.set(self.num_running)


def finish(lane: Lane, record: Record, ending: Ending) -> None:
    """Hands what became of a record to its lane's outbox, and counts and logs it."""
    lane.submit(ending.completion)
    metrics.MESSAGES.labels(record.topic, ending.outcome).inc()
    log.info(
        "message_handled",
        partition=str(lane.tp),
        offset=record.offset,
        outcome=ending.outcome,
        event_id=event_id(record),
    )
