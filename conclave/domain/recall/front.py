"""What a process keeps of its own in front of the record: remembered answers within so many bytes, and who must go.

`EVICTIONS` gives an entry its priority whenever it is put in or used; the lowest goes first. `inflation` is the priority of the
last that went: what is put in later starts above it, so that what was once dear does not stay for ever.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

V = TypeVar("V")


@dataclass(slots=True)
class Entry(Generic[V]):
    """A value with what its priority comes from."""

    key: str
    value: V
    num_bytes: int
    cost: float  # of making it anew: tokens, or seconds
    liking: float = 1.0  # 0 to 2: what people think of it, 1 where nobody said
    uses: int = 1
    used_at: int = 0  # a count of uses, not a clock
    priority: float = field(default=0.0)


Priority = Callable[[Entry[object], float], float]


def _recent(entry: Entry[object], inflation: float) -> float:
    return float(entry.used_at)


def _frequent(entry: Entry[object], inflation: float) -> float:
    return float(entry.uses)


def _first_in(entry: Entry[object], inflation: float) -> float:
    return entry.priority or float(entry.used_at)


def _greedy_dual(entry: Entry[object], inflation: float) -> float:
    """GreedyDual-Size-Frequency: H = L + F C / S (Cherkasova, HPL-98-69R1, 1998); the cost counts as far as it is liked."""
    return inflation + entry.uses * entry.cost * entry.liking / entry.num_bytes


EVICTIONS: Mapping[str, Priority] = {
    "fifo": _first_in,
    "lru": _recent,
    "lfu": _frequent,
    "gdsf": _greedy_dual,
}


class Front(Generic[V]):
    """Values by key, at most `max_bytes` of them together. `eviction` is a row of `EVICTIONS`."""

    def __init__(self, max_bytes: int, eviction: str = "gdsf") -> None:
        self._max_bytes, self._priority = max_bytes, EVICTIONS[eviction]
        self._entries: dict[str, Entry[V]] = {}
        self._heap: list[tuple[float, int, str]] = []  # lazily: what was used since has another priority by now
        self._number = itertools.count(1)
        self._inflation = 0.0
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> V | None:
        """The value under a key, which is a use of it; None when there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.uses += 1
        self._rank(entry)
        return entry.value

    def put(self, key: str, value: V, *, num_bytes: int, cost: float, liking: float = 1.0) -> None:
        """Keeps a value in place of an earlier one, if there is room for it once less dear ones have gone."""
        earlier = self._entries.get(key)
        self.drop(key)
        if num_bytes > self._max_bytes:
            return
        uses = earlier.uses + 1 if earlier is not None else 1
        entry = Entry(key, value, max(num_bytes, 1), cost, liking, uses)
        self._entries[key] = entry
        self.num_bytes += entry.num_bytes
        self._rank(entry)
        while self.num_bytes > self._max_bytes:
            self._evict()

    def drop(self, key: str) -> None:
        """Forgets a key."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.num_bytes -= entry.num_bytes

    def drop_where(self, is_stale: Callable[[V], bool]) -> int:
        """Forgets all values that are stale; how many they were."""
        stale = [key for key, entry in self._entries.items() if is_stale(entry.value)]
        for key in stale:
            self.drop(key)
        return len(stale)

    def values(self) -> Iterator[V]:
        """All values, in no order; no use of them."""
        return (entry.value for entry in self._entries.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def _rank(self, entry: Entry[V]) -> None:
        entry.used_at = next(self._number)
        entry.priority = self._priority(entry, self._inflation)  # type: ignore[arg-type]  # no row looks at the value
        heapq.heappush(self._heap, (entry.priority, entry.used_at, entry.key))
        if len(self._heap) > 64 + 4 * len(self._entries):
            self._heap = [(each.priority, each.used_at, each.key) for each in self._entries.values()]
            heapq.heapify(self._heap)

    def _evict(self) -> None:
        """Lets the least dear go; of equals, the one used least lately."""
        while True:
            priority, used_at, key = heapq.heappop(self._heap)
            entry = self._entries.get(key)
            if entry is not None and entry.used_at == used_at:
                self._inflation = max(self._inflation, priority)
                self.drop(key)
                return
