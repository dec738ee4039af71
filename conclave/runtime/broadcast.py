"""Broadcast topics: every replica reads them whole, without a group, best effort."""

import asyncio
from collections.abc import Sequence

import structlog

from conclave.errors import LostDependency
from conclave.runtime.attempts import Dependencies
from conclave.runtime.broker import Broker, LogReader
from conclave.runtime.handler import Listener
from conclave.runtime.record import Tp
from schemas import codec
from schemas.codec import UnreadableEvent
from schemas.envelope import header

_POLL_MS = 500
_TRY_AGAIN_S = 1.0
_CATCH_UP_S = 5.0  # a service is ready after this long in any case: what it hears is best effort

log = structlog.get_logger(__name__)


class BroadcastReader:
    """Hands every event of `topics` to `listener`: from the first that the log still has, or those to come (`from_end`)."""

    def __init__(
        self,
        broker: Broker,
        topics: Sequence[str],
        listener: Listener,
        dependencies: Dependencies,
        *,
        from_end: bool = False,
    ) -> None:
        self._broker, self._topics, self._from_end = broker, topics, from_end
        self._listener, self._dependencies = listener, dependencies
        self._positions: dict[Tp, int] = {}  # where to go on after the broker was away
        self.is_caught_up = False

    async def run(self) -> None:
        """Reads until cancelled; goes on where it was when the broker was away."""
        while True:
            reader = self._broker.log_reader(follows=True)
            try:
                await reader.start()
                await self._read(reader)
            except LostDependency as error:
                self._dependencies.lost(error.dependency, error.why)
            finally:
                await reader.stop()
            await asyncio.sleep(_TRY_AGAIN_S)

    async def _read(self, reader: LogReader) -> None:
        partitions = [tp for topic in self._topics for tp in await reader.partitions(topic)]
        if not partitions:
            raise LostDependency("kafka", f"no topics {', '.join(self._topics)}")
        begins, ends = await reader.begin_offsets(partitions), await reader.end_offsets(partitions)
        starts = ends if self._from_end else begins
        reader.assign({tp: max(begins[tp], self._positions.setdefault(tp, starts[tp])) for tp in partitions})
        caught_up_by = asyncio.get_running_loop().time() + _CATCH_UP_S
        while True:
            for record in await reader.poll(timeout_ms=_POLL_MS):
                self._hear(record.topic, header(record.headers, "ce_type"), record.value)
                self._positions[Tp(record.topic, record.partition)] = record.offset + 1
            if not self.is_caught_up:
                positions = [await reader.position(tp) >= ends[tp] for tp in partitions]
                self.is_caught_up = all(positions) or asyncio.get_running_loop().time() > caught_up_by

    def _hear(self, topic: str, ce_type: str | None, value: bytes | None) -> None:
        if value is None:
            return  # a tombstone of compaction
        try:
            self._listener.hear(codec.decode(topic, ce_type, value))
        except UnreadableEvent as error:
            log.warning("broadcast_unreadable", topic=topic, field=error.field, error=error.message)
