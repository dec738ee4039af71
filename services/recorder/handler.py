"""Batches of events in; rows out, once each."""

from collections.abc import Mapping, Sequence

from conclave.domain.recorded import RecordedEvent
from conclave.store.store import Store


class Recorder:
    """What the runtime's sink writes to."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def claim(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The offset at which each partition goes on. Raises: LostDependency."""
        return await self._store.claim(partitions)

    async def record(self, batch: Sequence[RecordedEvent], offsets: Mapping[tuple[str, int], int]) -> int:
        """Rows that were new. Raises: Fenced, LostDependency, Rejected."""
        return await self._store.write(batch, offsets)

    async def maintain(self, now_ms: int) -> None:
        """Partitions ahead, and retention. Raises: LostDependency."""
        await self._store.maintain(now_ms)
