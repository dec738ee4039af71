"""Broadcast topics: every replica reads them whole, without a group, best effort."""

import asyncio
from collections.abc import Sequence

import structlog

from conclave.errors import LostDependency
from conclave.runtime.attempts import Dependencies
from conclave.runtime.broker import Broker, LogReader
from conclave.runtime.handler import Broadcast
from schemas import codec
from schemas.codec import UnreadableEvent
from schemas.envelope import header

log = structlog.get_logger(__name__)


class BroadcastReader:
    """Hands every event of `topics`, from the first that the log still has, to `listener`."""

    def __init__(self, broker: Broker, topics: Sequence[str], listener: Broadcast, dependencies: Dependencies) -> None:
        self._broker, self._topics = broker, topics
        self._listener, self._dependencies = listener, dependencies
        self.is_caught_up = False

    async def run(self) -> None:
        """Reads until cancelled; starts over when the broker was away."""
        while True:
            reader = self._broker.log_reader()
            try:
                await reader.start()
                await self._read(reader)
            except LostDependency as error:
                self._dependencies.lost(error.dependency, error.why)
            finally:
                await reader.stop()
            await asyncio.sleep(1.0)

    async def _read(self, reader: LogReader) -> None:
        partitions = [tp for topic in self._topics for tp in await reader.partitions(topic)]
        if not partitions:
            raise LostDependency("kafka", f"no topics {', '.join(self._topics)}")
        ends = await reader.end_offsets(partitions)
        reader.assign(await reader.begin_offsets(partitions))
        caught_up_by = asyncio.get_running_loop().time() + 5.0
        while True:
            for record in await reader.poll(timeout_ms=500):
                self._hear(record.topic, header(record.headers, "ce_type"), record.value)
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
