"""What reads the broker in memory without being in a group: a log, and what a group has come to."""

from collections.abc import Collection, Mapping

from conclave.runtime.record import Record, Tp
from conclave.testing.network import Request
from conclave.testing.way import Way


class MemoryLogReader:
    """conclave.runtime.broker.LogReader."""

    def __init__(self, way: Way) -> None:
        self._way, self._cluster = way, way.cluster
        self._positions: dict[Tp, int] = {}

    async def start(self) -> None:
        """Connects. Raises: LostDependency."""
        await self._way.request(Request.METADATA, lambda: None)

    async def partitions(self, topic: str) -> list[Tp]:
        """The partitions of a topic. Raises: LostDependency."""
        found: list[Tp] = await self._way.request(Request.METADATA, lambda: list(self._cluster.topic(topic)))
        return found

    def assign(self, positions: Mapping[Tp, int]) -> None:
        """Reads these partitions from these offsets on."""
        self._positions = dict(positions)

    async def begin_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        """The first offset of each partition that is not deleted. Raises: LostDependency."""
        found: dict[Tp, int] = await self._way.request(
            Request.METADATA, lambda: {tp: self._cluster.partitions[tp].begin for tp in partitions}
        )
        return found

    async def end_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        """The offset after the last stable one, of each partition. Raises: LostDependency."""
        found: dict[Tp, int] = await self._way.request(
            Request.METADATA, lambda: {tp: self._cluster.partitions[tp].last_stable for tp in partitions}
        )
        return found

    async def position(self, tp: Tp) -> int:
        """The offset that will be read next."""
        return self._positions[tp]

    async def poll(self, *, timeout_ms: int, max_records: int = 1000) -> list[Record]:
        """The next records of all assigned partitions; empty after `timeout_ms`."""
        records: list[Record] = []
        until = self._cluster.loop.time() + timeout_ms / 1000
        while True:
            if not self._cluster.network.is_away and not self._way.endpoint.is_cut:
                for tp, position in self._positions.items():
                    found, self._positions[tp] = self._cluster.partitions[tp].fetch(
                        position, max_records - len(records)
                    )
                    records += found
            left_s = until - self._cluster.loop.time()
            if records or left_s <= 0:
                return records
            await self._cluster.changed(dict.fromkeys(tp.topic for tp in self._positions), left_s)

    async def stop(self) -> None:
        """Nothing to close."""


class MemoryGroupReader:
    """conclave.runtime.broker.GroupReader."""

    def __init__(self, way: Way, consumer_group: str) -> None:
        self._way, self._group = way, consumer_group

    async def start(self) -> None:
        """Connects. Raises: LostDependency."""
        await self._way.request(Request.METADATA, lambda: None)

    async def committed(self, partitions: Collection[Tp]) -> dict[Tp, tuple[int, str]]:
        """Committed offset and metadata of each partition that has one. Raises: LostDependency."""
        return await self._way.committed(self._group, partitions)

    async def num_members(self) -> int:
        """How many are in the group now. Raises: LostDependency."""
        found: int = await self._way.request(
            Request.METADATA, lambda: len(self._way.cluster.group(self._group).members)
        )
        return found

    async def stop(self) -> None:
        """Nothing to close."""
