"""What a broker in memory keeps: partitions with their records and markers, and transactions with their epochs. No I/O.

As Kafka does it: a transaction's records are in the log at once, a marker that takes an offset says later what became of
them, and a reader that is read_committed sees nothing beyond the first record whose fate is open.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from msgspec import Struct

from conclave.errors import Fenced
from conclave.runtime.record import Output, Tp
from schemas.envelope import Headers


class StoredRecord(Struct, frozen=True):
    """A record as consumed."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    transaction: "Transaction | None" = None


@dataclass(eq=False, slots=True)
class Transaction:
    """What one incarnation of a transactional id has sent since its last commit."""

    transactional_id: str
    epoch: int
    partitions: dict[Tp, None] = field(default_factory=dict)
    offsets: list[tuple[str, Tp, int, str]] = field(default_factory=list)  # consumer group, partition, offset, metadata


class Partition:
    """A partition's log. Offsets count records and markers alike."""

    def __init__(self, tp: Tp) -> None:
        self.tp = tp
        self._entries: list[StoredRecord | None] = []  # None is a marker
        self._open: dict[Transaction, int] = {}  # with the offset of its first record here
        self._aborted: set[Transaction] = set()
        self.begin = 0  # what is below it is deleted for those who read; the laws judge the whole history
        self.end = 0  # the offset of the next record
        self.last_stable = 0  # what is below it has its fate decided

    def append(self, output: Output, now_ms: int, transaction: Transaction | None = None) -> None:
        """Takes a record."""
        if transaction is not None:
            self._open.setdefault(transaction, self.end)
        tp = self.tp
        self._entries.append(
            StoredRecord(
                tp.topic, tp.partition, self.end, now_ms, output.key, output.value, output.headers, transaction
            )
        )
        self._grown()

    def mark(self, transaction: Transaction, *, is_committed: bool) -> None:
        """Takes the marker that decides a transaction here."""
        if self._open.pop(transaction, None) is not None:
            self._entries.append(None)
            if not is_committed:
                self._aborted.add(transaction)
            self._grown()

    def _grown(self) -> None:
        self.end = len(self._entries)
        self.last_stable = min(self._open.values(), default=self.end)

    def read(self, position: int, max_records: int) -> tuple[list[StoredRecord], int]:
        """The committed records from `position` on, deleted ones too, and the position after what was read or stepped over."""
        records: list[StoredRecord] = []
        end = self.last_stable
        while position < end and len(records) < max_records:
            entry = self._entries[position]
            position += 1
            if entry is not None and (entry.transaction is None or entry.transaction not in self._aborted):
                records.append(entry)
        return records, position

    def fetch(self, position: int, max_records: int) -> tuple[list[StoredRecord], int]:
        """What a reader gets at `position`: at a deleted one what the first does that is left, as with `earliest`."""
        return self.read(max(position, self.begin), max_records)

    def delete(self, *, before_ms: int, below: int) -> None:
        """Deletes what is older than `before_ms` and lies below an offset, and nothing whose fate is open."""
        end = min(below, self.last_stable)
        while self.begin < end:
            entry = self._entries[self.begin]
            if entry is not None and entry.timestamp >= before_ms:
                return
            self.begin += 1

    def value_at(self, offset: int) -> bytes | None:
        """The bytes of the record at an offset."""
        entry = self._entries[offset]
        return entry.value if entry is not None else None

    @property
    def num_aborted(self) -> int:
        """Records that nobody ever reads: their transaction was aborted."""
        return sum(entry is not None and entry.transaction in self._aborted for entry in self._entries)

    def __iter__(self) -> Iterator[StoredRecord]:
        """All committed records."""
        return iter(self.read(0, self.end)[0])


@dataclass(slots=True)
class Holder:
    """A transactional id: how often it was opened, and what is under way."""

    epoch: int = -1
    transaction: Transaction | None = None  # open: neither committed nor aborted
    committing: Transaction | None = None  # committed, its markers still being written


class Transactions:
    """The transaction coordinator over a set of partitions. Committed offsets are handed to `on_offset`."""

    def __init__(self, partitions: dict[Tp, Partition]) -> None:
        self._partitions = partitions
        self.offsets: dict[str, dict[Tp, tuple[int, str]]] = {}
        self.num_commits = 0  # of offsets
        self.on_offset: Callable[[str, Tp, tuple[int, str] | None, tuple[int, str]], None] = lambda *commit: None
        self._holders: dict[str, Holder] = {}

    def undecided(self, transactional_id: str) -> list[Tp]:
        """The partitions that lack a marker of the id's holder: with its next holder they have it."""
        holder = self._holders.get(transactional_id, Holder())
        return [tp for each in (holder.committing, holder.transaction) if each is not None for tp in each.partitions]

    def open(self, transactional_id: str) -> int:
        """The epoch of a new holder. What the former one had committed is completed, what it had open is aborted."""
        holder = self._holders.setdefault(transactional_id, Holder())
        self.settle(holder)
        self._abort(holder)
        holder.epoch += 1
        return holder.epoch

    def produce(self, transactional_id: str, epoch: int, tp: Tp, outputs: Iterable[Output], now_ms: int) -> None:
        """Takes records of one partition into the holder's transaction. Raises: Fenced."""
        transaction = self._current(transactional_id, epoch)
        transaction.partitions[tp] = None
        for output in outputs:
            self._partitions[tp].append(output, now_ms, transaction)

    def add_offset(self, transactional_id: str, epoch: int, group: str, tp: Tp, offset: int, metadata: str) -> None:
        """Takes a consumer group's offset into the holder's transaction. Raises: Fenced."""
        self._current(transactional_id, epoch).offsets.append((group, tp, offset, metadata))

    def commit(self, transactional_id: str, epoch: int) -> Transaction | None:
        """Decides the holder's transaction; its markers are written by `mark` and `settle`. Raises: Fenced."""
        holder = self._holder(transactional_id, epoch)
        self.settle(holder)
        holder.committing, holder.transaction = holder.transaction, None
        return holder.committing

    def expire(self, transaction: Transaction) -> bool:
        """Aborts a transaction that is open for too long, and fences its holder. False when it isn't open any more."""
        holder = self._holders[transaction.transactional_id]
        if holder.transaction is not transaction:
            return False
        self._abort(holder)
        holder.epoch += 1
        return True

    def is_committing(self, transaction: Transaction) -> bool:
        """True while a committed transaction still lacks markers."""
        return self._holders[transaction.transactional_id].committing is transaction

    def mark(self, transaction: Transaction, tp: Tp) -> None:
        """Writes the commit's marker to one partition."""
        if self.is_committing(transaction):
            self._partitions[tp].mark(transaction, is_committed=True)

    def mark_offsets(self, transaction: Transaction) -> None:
        """Lets the commit's offsets count."""
        if self.is_committing(transaction):
            for group, tp, offset, metadata in transaction.offsets:
                self.commit_offset(group, tp, offset, metadata)
            transaction.offsets.clear()

    def settle(self, holder: Holder | str) -> None:
        """Writes all that is still missing of the holder's commit."""
        if isinstance(holder, str):
            holder = self._holders[holder]
        if (transaction := holder.committing) is not None:
            self.mark_offsets(transaction)
            for tp in transaction.partitions:
                self._partitions[tp].mark(transaction, is_committed=True)
            holder.committing = None

    def commit_offset(self, group: str, tp: Tp, offset: int, metadata: str) -> None:
        """Sets a consumer group's offset."""
        self.num_commits += 1
        of_group = self.offsets.setdefault(group, {})
        self.on_offset(group, tp, of_group.get(tp), (offset, metadata))
        of_group[tp] = (offset, metadata)

    def open_transaction(self, transactional_id: str) -> Transaction | None:
        """What the holder has under way."""
        return self._holders[transactional_id].transaction

    def _abort(self, holder: Holder) -> None:
        transaction, holder.transaction = holder.transaction, None
        if transaction is not None:
            for tp in transaction.partitions:
                self._partitions[tp].mark(transaction, is_committed=False)

    def _holder(self, transactional_id: str, epoch: int) -> Holder:
        holder = self._holders.get(transactional_id)
        if holder is None or holder.epoch != epoch:
            raise Fenced(transactional_id)
        return holder

    def _current(self, transactional_id: str, epoch: int) -> Transaction:
        holder = self._holder(transactional_id, epoch)
        self.settle(holder)
        if holder.transaction is None:
            holder.transaction = Transaction(transactional_id, epoch)
        return holder.transaction
