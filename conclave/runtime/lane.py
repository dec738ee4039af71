"""A lane: one input partition with its tracker, its outbox, its transactional producer and its flusher.

Its life, in the numbers that `_open` repeats:
    1. membership: the broker confirms that this process is in the group, so a zombie stops here
    2. fence: opening the producer under the partition's transactional id ends the old owner's transaction for good
    3. read the committed offset and completed set, which nobody else can change any more
    4. restore the tracker; drop what turned out to be done; keep running work that is not
    5. prepare (read back the ids of the duplicate window), seek, and admit records
After trouble of any kind (unknown outcome, fenced, broker away) a lane goes back to 1: the committed set tells which
finished work is durable, and the rest is sent again from the outbox. Nothing is decoded again.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from conclave.errors import Fenced, LostDependency
from conclave.runtime import commit_metadata, metrics
from conclave.runtime.broker import Broker, GroupConsumer, Membership
from conclave.runtime.groups import Groups
from conclave.runtime.record import Completion, Tp
from conclave.runtime.tracker import Commit, Tracker
from conclave.runtime.transaction import transact

# Of one transaction: what takes a slow broker well under a second. What is over goes into the next one, at once.
MAX_FLUSH_RECORDS = 500
MAX_FLUSH_BYTES = 4 << 20
_FLUSH_OFFSETS = 2_000  # a group may complete thousands of offsets with few records: one metadata for all of them

# Between tries to open a lane: a rebalance is over in milliseconds, a broker that restarts in seconds.
_REOPEN_S, _REOPEN_MAX_S = 0.05, 2.0

# What has finished waits for company, so that a transaction has more to carry: at most so much of the time that its own work
# took, and never longer than a person would notice (docs/decisions/0021).
_COMPANY_SHARE, _COMPANY_MAX_S = 0.02, 0.05

log = structlog.get_logger(__name__)


class Lane:
    """See the module's docstring. `groups` is None for a service whose handler joins nothing."""

    def __init__(
        self,
        tp: Tp,
        *,
        consumer_group: str,
        broker: Broker,
        consumer: GroupConsumer,
        groups: Groups | None,
        prepare: Callable[["Lane"], Awaitable[None]],
        on_change: Callable[[], None],
    ) -> None:
        self.tp = tp
        self.groups = groups
        self.tracker = Tracker(0)
        self.tasks: dict[int, asyncio.Task[None]] = {}  # of running handlers, by offset
        self.is_ready = False  # admitting: fenced, restored and sought
        self.is_held = False  # between a revocation and the next assignment
        self.membership: Membership | None = None  # by which it was assigned
        self.opened_at = 0.0  # on the event loop's clock
        self.log_end: int | None = None  # the log's end as it was then, once it is known
        self._consumer_group = consumer_group
        self._broker = broker
        self._consumer = consumer
        self._prepare = prepare
        self._on_change = on_change
        self._producer = broker.transactional_producer(f"conclave.{consumer_group}.{tp.topic}.{tp.partition}")
        self._outbox: deque[Completion] = deque()
        self._flushing: list[Completion] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._must_reopen = False
        self._due = 0.0  # on the event loop's clock: when what has finished waits no longer for company
        self.close_limit_s: float | None = None  # of its connections, where a stop says one
        self._num_waiting = 0  # for all to be flushed: nothing waits for company meanwhile

    @property
    def is_admitting(self) -> bool:
        """True while records of this partition may be polled."""
        return self.is_ready and not self.is_held and self.tracker.room > 0

    @property
    def has_unflushed(self) -> bool:
        """True while finished work is not durable yet."""
        return bool(self._outbox or self._flushing)

    def submit(self, completion: Completion, *, worked_s: float = 0.0) -> None:
        """Takes finished work that took `worked_s` seconds; the next flush publishes and commits it."""
        due = asyncio.get_running_loop().time() + min(_COMPANY_MAX_S, _COMPANY_SHARE * worked_s)
        self._due = min(self._due, due) if self._outbox else due
        self._outbox.append(completion)
        self._idle.clear()
        self._wake.set()

    def reopen(self) -> None:
        """Has the lane fence, read back and restore again: its process may have lost the partition in between."""
        self.is_ready = False
        self._must_reopen = True
        self._wake.set()

    async def until_flushed(self, limit_s: float) -> bool:
        """True once no finished work waits; False when it still does after `limit_s`."""
        self._num_waiting += 1
        self._wake.set()
        try:
            async with asyncio.timeout(limit_s):
                while self.has_unflushed:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            return False
        finally:
            self._num_waiting -= 1
        return True

    async def run(self) -> None:
        """Opens the lane, flushes, and opens it again after any trouble, until cancelled."""
        cause = "assigned"
        try:
            while True:
                await self._open_until_ready(cause)
                cause = await self._flush_until_trouble()
        finally:
            self.is_ready = False
            for task in list(self.tasks.values()):
                task.cancel()
            await asyncio.shield(self._producer.close(self.close_limit_s))

    async def _open_until_ready(self, cause: str) -> None:
        backoff_s = _REOPEN_S
        while True:
            try:
                await self._open(cause)
                return
            except (LostDependency, Fenced) as error:
                log.debug("lane_not_open_yet", partition=str(self.tp), error=str(error))
            await asyncio.sleep(backoff_s)
            backoff_s = min(_REOPEN_MAX_S, backoff_s * 2)

    async def _open(self, cause: str) -> None:
        self.is_ready = self._must_reopen = False
        if not await self._consumer.is_member():  # 1
            raise Fenced(str(self.tp))
        await self._producer.open()  # 2
        metrics.PRODUCERS_OPENED.labels(cause).inc()
        commit = await self._committed()  # 3
        self._restore(commit)  # 4
        await self._prepare(self)  # 5
        self._consumer.seek(self.tp, self.tracker.low)
        self.opened_at, self.log_end = asyncio.get_running_loop().time(), None
        self.is_ready = True
        self._on_change()
        log.info("lane_ready", partition=str(self.tp), low=commit.low, done=len(commit.done), cause=cause)

    async def _committed(self) -> Commit:
        offset, metadata = (await self._broker.committed(self._consumer_group, [self.tp])).get(self.tp, (0, ""))
        commit = commit_metadata.decode(offset, metadata)
        if commit is None:
            log.warning("commit_metadata_unknown", partition=str(self.tp), low=offset)
        return commit or Commit(offset)

    def _restore(self, commit: Commit) -> None:
        self.tracker = Tracker.restore(commit)
        finished, self._flushing = [*self._flushing, *self._outbox], []
        self._outbox.clear()
        if self.groups is not None:
            # Another owner may have decided a group from fewer events than it has here: read it all again.
            self.groups.clear()
        else:
            self._outbox.extend(each for each in finished if not commit.covers(each.offsets[0]))
            for offset in [offset for offset in self.tasks if commit.covers(offset)]:
                self.tasks.pop(offset).cancel()
            self.tracker.running.update(self.tasks, (each.offsets[0] for each in self._outbox))
        self._wake.set()
        self._idle.set()

    async def _flush_until_trouble(self) -> str:
        """The cause for which the lane must be opened again."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outbox or self._must_reopen:
                await self._until_due()
                if self._must_reopen:
                    return "rebalance"
                self._take()
                try:
                    await self._flush()
                except Fenced:
                    self.is_ready = False
                    log.warning("lane_fenced", partition=str(self.tp))
                    return "fenced"
                except LostDependency as error:
                    self.is_ready = False
                    log.debug("flush_outcome_unknown", partition=str(self.tp), error=str(error))
                    return "unknown_outcome"
            self._idle.set()

    async def _until_due(self) -> None:
        """Returns once a flush should wait no longer for what is about to finish."""
        loop = asyncio.get_running_loop()
        while not (self._must_reopen or self._num_waiting or len(self._outbox) >= MAX_FLUSH_RECORDS):
            left_s = self._due - loop.time()
            if left_s <= 0:
                return
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._wake.wait()

    def _take(self) -> None:
        """Moves what finished first from the outbox into this flush, within its bounds; at least one completion."""
        num_records = num_bytes = num_offsets = 0
        while self._outbox:
            outputs = self._outbox[0].outputs
            num_records += len(outputs)
            num_bytes += sum(output.size for output in outputs)
            num_offsets += len(self._outbox[0].offsets)
            is_full = num_records > MAX_FLUSH_RECORDS or num_bytes > MAX_FLUSH_BYTES or num_offsets > _FLUSH_OFFSETS
            if is_full and self._flushing:
                return
            self._flushing.append(self._outbox.popleft())

    async def _flush(self) -> None:
        """One transaction: outputs, dead letters and offsets together."""
        started = time.perf_counter()
        offsets = [offset for completion in self._flushing for offset in completion.offsets]
        outputs = [output for completion in self._flushing for output in completion.outputs]
        commit = self.tracker.commit_with(offsets)
        position = (commit.low, commit_metadata.encode(commit))
        await transact(self._producer, outputs, self._consumer_group, {self.tp: position})
        self.tracker.finish(offsets)
        self._flushing = []
        metrics.TRANSACTION_SECONDS.observe(time.perf_counter() - started)
        metrics.TRANSACTION_RECORDS.observe(len(outputs))
        self._on_change()
