"""How far a consumer group is behind on a topic, seen from outside of it: for a service that would not run ahead of another."""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass

from conclave.errors import LostDependency
from conclave.runtime import commit_metadata
from conclave.runtime.broker import Broker, GroupReader, LogReader
from conclave.runtime.record import Tp


@dataclass(frozen=True, slots=True)
class Behind:
    """`num_open` offsets are not done yet, transaction markers among them; `num_members` are at work on them."""

    num_open: int
    num_members: int


class Backlog:
    """Counts what a group has yet to do of a topic, which this service makes out of `source`.

    Its connections are opened at the first count, and again after any trouble.
    """

    def __init__(self, broker: Broker, consumer_group: str, topic: str, *, source: str) -> None:
        self._broker, self._group, self._topic, self._source = broker, consumer_group, topic, source
        self._num_sources = 0
        self._readers: tuple[LogReader, GroupReader] | None = None
        self._partitions: list[Tp] = []

    async def count(self) -> Behind:
        """What is open now. Raises: LostDependency."""
        log, group = self._readers or await self._connect()
        try:
            # The commits first: what is done in between is counted as open, and nothing twice as done.
            committed = await group.committed(self._partitions)
            num_members = await group.num_members()
            ends = await log.end_offsets(self._partitions)
            begins = {} if len(committed) == len(ends) else await log.begin_offsets(self._partitions)
        except LostDependency:
            await self.close()
            raise
        num_open = sum(_num_open(end, begins.get(tp, 0), committed.get(tp)) for tp, end in ends.items())
        return Behind(num_open, num_members)

    def share(self, held: Collection[Tp]) -> float:
        """How much of `source` the partitions are that this process holds, 0 to 1. All, until it is known how many there are."""
        return min(1.0, len(held) / self._num_sources) if self._num_sources else float(bool(held))

    async def close(self) -> None:
        """Closes the connections."""
        readers, self._readers = self._readers, None
        for reader in readers or ():
            with contextlib.suppress(LostDependency):
                await reader.stop()

    async def _connect(self) -> tuple[LogReader, GroupReader]:
        log, group = self._readers = self._broker.log_reader(), self._broker.group_reader(self._group)
        try:
            await log.start()
            await group.start()
            self._partitions = await log.partitions(self._topic)
            self._num_sources = len(await log.partitions(self._source))
        except LostDependency:
            await self.close()
            raise
        return log, group


def _num_open(end: int, begin: int, committed: tuple[int, str] | None) -> int:
    """Offsets of a partition that are not done: from its watermark, or the log's begin without one, less those done above it."""
    if committed is None:
        return max(0, end - begin)
    low, metadata = committed
    return max(0, end - low - commit_metadata.num_done(metadata))
