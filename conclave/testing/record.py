"""A database in memory that keeps the recorder's promises: rows and offsets together, fenced by epoch, idempotent."""

from collections.abc import Callable, Mapping, Sequence

from conclave.domain.external import Entry
from conclave.domain.recorded import RecordedEvent
from conclave.errors import Fenced
from conclave.runtime.record import Tp
from conclave.testing.network import Endpoint, Network, Request

Position = tuple[str, int]


class Database:
    """The rows, by where their event lies in the log, and the recorder's offsets."""

    def __init__(self, network: Network, upkeep: Network | None = None) -> None:
        """`upkeep`: the way to it that housekeeping takes; the same, unless it is given."""
        self.network, self.upkeep = network, upkeep or network
        self.rows: dict[tuple[str, int, int], RecordedEvent] = {}
        self.refused: set[tuple[str, int, int]] = set()
        self.calls: dict[str, Entry] = {}  # the ledger of tools, by key
        self.refuses: Callable[[RecordedEvent], bool] = lambda event: False
        self._offsets: dict[Position, tuple[int, int]] = {}  # the next offset, and the epoch

    def next_offset(self, tp: Tp) -> int:
        """The offset at which the recorder goes on."""
        return self._offsets.get((tp.topic, tp.partition), (0, 0))[0]

    def claim(self, wanted: Sequence[Position]) -> dict[Position, tuple[int, int]]:
        """The next offset and the new epoch of each."""
        for position in wanted:
            next_offset, epoch = self._offsets.get(position, (0, 0))
            self._offsets[position] = (next_offset, epoch + 1)
        return {position: self._offsets[position] for position in wanted}

    def write(
        self, batch: Sequence[RecordedEvent], offsets: Mapping[Position, int], epochs: Mapping[Position, int]
    ) -> int:
        """Rows that were new. Raises: Fenced, ValueError for a row that it refuses; then nothing is written."""
        for position in offsets:
            if self._offsets.get(position, (0, 0))[1] != epochs.get(position, -1):
                raise Fenced(f"{position[0]}/{position[1]}")
        refused = {(event.topic, event.partition, event.offset) for event in batch if self.refuses(event)}
        self.refused |= refused
        if refused:
            raise ValueError("a row that the database does not take")
        for position, next_offset in offsets.items():
            self._offsets[position] = (next_offset, epochs[position])
        before = len(self.rows)
        for event in batch:
            self.rows.setdefault((event.topic, event.partition, event.offset), event)
        return len(self.rows) - before


class MemoryStore:
    """A recorder process's way to the database: conclave.runtime.sink.Store."""

    def __init__(self, database: Database, endpoint: Endpoint) -> None:
        self._database, self._endpoint = database, endpoint
        self._epochs: dict[Position, int] = {}

    async def claim(self, partitions: Sequence[Position]) -> dict[Position, int]:
        """The offset at which each partition goes on. Raises: LostDependency."""
        wanted = sorted(partitions)
        claimed: dict[Position, tuple[int, int]] = await self._database.network.request(
            self._endpoint, Request.CLAIM, lambda: self._database.claim(wanted)
        )
        self._epochs = {position: epoch for position, (_, epoch) in claimed.items()}
        return {position: next_offset for position, (next_offset, _) in claimed.items()}

    async def write(self, batch: Sequence[RecordedEvent], offsets: Mapping[Position, int]) -> int:
        """Rows that were new. Raises: Fenced, LostDependency."""
        epochs = dict(self._epochs)
        num_new: int = await self._database.network.request(
            self._endpoint, Request.WRITE, lambda: self._database.write(batch, offsets, epochs)
        )
        return num_new

    async def maintain(self, now_ms: int) -> None:
        """Nothing to do, which it may be away for. Raises: LostDependency."""
        await self._database.upkeep.request(self._endpoint, Request.MAINTAIN, lambda: None)
