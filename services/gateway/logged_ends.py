"""The record, with the ends of requests whose content it does not keep read where they lie in the log, as long as that has them."""

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Any

from conclave.errors import LostDependency
from conclave.runtime.broker import Broker, LogReader
from conclave.runtime.record import Tp
from conclave.store.happenings import Happening
from schemas import codec
from schemas.codec import UnreadableEvent
from schemas.events import AnswerReached, RequestFailed
from schemas.flow import Topic
from services.gateway.follower import Record

_PATIENCE_S = 5.0
_TOLD = ("answer", "message", "steps", "tally", "fields")


class LoggedEnds:
    """A `Record`, over another one and the log. Every method raises LostDependency."""

    def __init__(self, record: Record, broker: Broker) -> None:
        self._record, self._broker = record, broker
        self._reader: LogReader | None = None
        self._reading = asyncio.Lock()

    async def of(self, request_ids: Collection[str]) -> Mapping[str, list[Happening]]:
        """As the record has it."""
        return await self._record.of(request_ids)

    async def request(self, request_id: str) -> dict[str, Any] | None:
        """As the record has it."""
        return await self._record.request(request_id)

    async def ends(self, request_ids: Collection[str]) -> Mapping[str, dict[str, Any]]:
        """As the record has it, with what was said of those whose content is off."""
        found = await self._record.ends(request_ids)
        return {
            request_id: row | await self._said(request_id, row) if row.get("content") == "off" else row
            for request_id, row in found.items()
        }

    async def close(self) -> None:
        """Closes the connections."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.stop()

    async def _said(self, request_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """What the end says in words; nothing once the log has forgotten it."""
        if row["log_offset"] is None:
            return {}
        async with self._reading:
            try:
                event = await self._read(Tp(Topic.ANSWERS.value, row["log_partition"]), row["log_offset"])
            except LostDependency:
                await self.close()
                raise
        if event is None or event.request_id != request_id:
            return {}
        return {name: getattr(event, name) for name in _TOLD if hasattr(event, name)}

    async def _read(self, tp: Tp, offset: int) -> AnswerReached | RequestFailed | None:
        reader = await self._connected()
        begins = await reader.begin_offsets([tp])
        if offset < begins[tp]:
            return None
        reader.assign({tp: offset})
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            for record in await reader.poll(timeout_ms=500, max_records=1):
                try:
                    event = codec.read(record.topic, record.headers, record.value)
                except UnreadableEvent:
                    return None
                is_it = record.offset == offset and isinstance(event, AnswerReached | RequestFailed)
                return event if is_it else None  # type: ignore[return-value]  # narrowed above
        raise LostDependency("kafka", f"{tp} did not give its record at {offset} in time")

    async def _connected(self) -> LogReader:
        if self._reader is None:
            reader = self._broker.log_reader()
            try:
                await reader.start()
            except LostDependency:
                await reader.stop()
                raise
            self._reader = reader
        return self._reader
