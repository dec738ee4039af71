"""Puts events to a service's handler, concurrently and within bounds, each until there are outputs or a dead letter."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

import structlog

from conclave.errors import LostDependency, PutBack, Rejected
from conclave.runtime import dead_letters, metrics
from conclave.runtime.attempts import Backoff, Dependencies, Missed
from conclave.runtime.delivery import Delivery
from conclave.runtime.endings import Endings
from conclave.runtime.handler import Arrival
from conclave.runtime.lane import Lane
from conclave.runtime.settings import RuntimeSettings
from conclave.runtime.translation import Translator
from conclave.runtime.work import Handles
from schemas.events import Event

# Between two looks for a dependency that is away; no attempt is charged.
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0

log = structlog.get_logger(__name__)


class Handling:
    """The events that are being handled. At most `max_in_flight` hold a slot; one that waits to be tried again holds none.

    All that were taken, whether they hold a slot or not, have about `max_in_flight_mib` of records between them.
    """

    def __init__(
        self,
        settings: RuntimeSettings,
        work: Handles,
        translator: Translator,
        endings: Endings,
        dependencies: Dependencies,
        *,
        on_change: Callable[[], None],
        rng: random.Random | None = None,
    ) -> None:
        self._settings, self._work, self._translator = settings, work, translator
        self._endings, self._missed = endings, Missed(dependencies)
        self._on_change = on_change
        self._backoff = Backoff(settings.retry_backoff_s)
        self._rng = rng or random.Random()
        self.num_running = 0
        self._num_open = self._num_bytes = 0  # of all that were taken
        metrics.IN_FLIGHT.set_function(lambda: self.num_running)  # to set it with each message costs more than to count

    @property
    def room(self) -> int:
        """How many more may be taken now."""
        left = (self._settings.max_in_flight_mib << 20) - self._num_bytes
        if left <= 0 or not self._work.may_take():
            return 0
        room = self._settings.max_in_flight - self.num_running
        # As many as fit if those to come are as large as those that are here; one may always come.
        return min(room, 1 + left * self._num_open // self._num_bytes) if self._num_bytes else room

    def take(self, tasks: asyncio.TaskGroup, delivery: Delivery, event: Event) -> None:
        """Handles the event in `tasks`."""
        self.num_running += 1
        lane, offset, num_bytes = delivery.lane, delivery.record.offset, len(delivery.record.value or b"")
        self._num_open += 1
        self._num_bytes += num_bytes
        task = tasks.create_task(self._handle(delivery, event), name=str(delivery))
        lane.tasks[offset] = task
        # Frees the slot also of a task that is cancelled before its first step.
        task.add_done_callback(lambda _: self._ended(lane, offset, num_bytes))

    def _ended(self, lane: Lane, offset: int, num_bytes: int) -> None:
        lane.tasks.pop(offset, None)
        self._num_open -= 1
        self._num_bytes -= num_bytes
        self.num_running -= 1
        self._on_change()

    async def _handle(self, delivery: Delivery, event: Event) -> None:
        missed: set[str] = set()
        try:
            await self._until_ended(delivery, event, missed)
        finally:
            self._missed.no_more(missed)

    async def _until_ended(self, delivery: Delivery, event: Event, missed: set[str]) -> None:
        record, attempt, loop = delivery.record, 1, asyncio.get_running_loop()
        started_s = loop.time()
        while True:
            try:
                outputs = await self._attempt(event, self._translator.arrival(record))
                delivery.done(self._endings.handled(record, event, outputs), worked_s=loop.time() - started_s)
                return
            except PutBack:
                return  # its offset stays open: whoever opens the lane next reads it again
            except LostDependency as error:
                self._missed.miss(error, missed)
                await self._wait_slotless(
                    min(_LONGEST_WAIT_S, self._backoff.delay_s(attempt, self._rng) + _SHORTEST_WAIT_S)
                )
                continue
            except Exception as error:
                if isinstance(error, Rejected) or attempt >= self._settings.max_attempts:
                    cause = dead_letters.cause_of(error, attempt)
                    delivery.done(self._endings.failed(record, event, cause))
                    return
                log.warning(
                    "attempt_failed",
                    partition=str(delivery.lane.tp),
                    offset=record.offset,
                    attempt=attempt,
                    error=repr(error)[:500],
                )
            await self._wait_slotless(self._backoff.delay_s(attempt, self._rng))
            attempt += 1

    async def _attempt(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        started_s = time.perf_counter()
        try:
            return await self._work.handler.handle(event, arrival)
        finally:
            metrics.handle_seconds(type(event).__name__).observe(time.perf_counter() - started_s)

    async def _wait_slotless(self, delay_s: float) -> None:
        """Waits without holding a slot: only the record's offset stays open (docs/decisions/0003)."""
        self.num_running -= 1
        self._on_change()
        try:
            await asyncio.sleep(delay_s)
        finally:
            self.num_running += 1
