"""Which offsets of one partition are running, which are done, and what a commit of them looks like. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

# A commit names every done offset between the low watermark and this many offsets on. The cap keeps the worst case
# within the 4,096 characters of metadata that a broker takes; see commit_metadata.
MAX_SPAN = 16_384


@dataclass(frozen=True, slots=True)
class Commit:
    """What is committed for a partition: all offsets below `low` are done, and those in `done` (all above `low`)."""

    low: int
    done: frozenset[int] = frozenset()

    def covers(self, offset: int) -> bool:
        """True when `offset` is done."""
        return offset < self.low or offset in self.done


@dataclass(slots=True)
class Tracker:
    """The offsets of one partition, each on its way: unseen → running → done.

    `low` is the watermark: every offset below it is done. `done` holds those done above it. An offset is done only once
    the transaction that finished it is durable. Offsets that the broker never delivers between two that it does
    (transaction markers, aborted or compacted records) count as done.
    """

    low: int
    done: set[int] = field(default_factory=set)
    running: set[int] = field(default_factory=set)
    next_offset: int = -1  # the lowest offset not seen yet

    def __post_init__(self) -> None:
        self.next_offset = max(self.next_offset, self.low)

    @classmethod
    def restore(cls, commit: Commit) -> "Tracker":
        """A tracker that starts where `commit` ended: everything not done will be seen again."""
        return cls(low=commit.low, done=set(commit.done))

    @property
    def span(self) -> int:
        """How far what has been seen reaches beyond the watermark, in offsets."""
        return self.next_offset - self.low

    @property
    def room(self) -> int:
        """How many more offsets may be admitted before the span is at its cap."""
        return max(0, MAX_SPAN - self.span)

    def admit(self, offset: int) -> bool:
        """True when `offset` is new and now running; False when it is running or done already."""
        if offset > self.next_offset:
            self._skip_to(offset)
        self.next_offset = max(self.next_offset, offset + 1)
        if offset < self.low or offset in self.done or offset in self.running:
            self._advance()
            return False
        self.running.add(offset)
        self._advance()
        return True

    def _skip_to(self, offset: int) -> None:
        """Counts all from `next_offset` to `offset` as done. At the begin of a log that was never read these may be millions."""
        if self.low == self.next_offset:
            self.low = self.next_offset = offset
            self.done = {each for each in self.done if each >= offset}
        else:
            self.done.update(range(self.next_offset, offset))

    def commit_with(self, offsets: Iterable[int]) -> Commit:
        """The commit that also finishes `offsets`. Changes nothing: the transaction may yet fail."""
        extra = set(offsets)
        low = self.low
        while low in self.done or low in extra:
            low += 1
        beyond = {offset for offset in self.done if offset > low}
        beyond.update(offset for offset in extra if offset > low)
        return Commit(low, frozenset(beyond))

    def finish(self, offsets: Collection[int]) -> None:
        """Marks running `offsets` as done: their transaction is durable."""
        self.running.difference_update(offsets)
        self.done.update(offset for offset in offsets if offset >= self.low)
        self._advance()

    def _advance(self) -> None:
        while self.low in self.done:
            self.done.discard(self.low)
            self.low += 1
        self.next_offset = max(self.next_offset, self.low)
