"""The open groups of a lane: events read, without effect yet, until their joiner decides. No I/O.

The invariant that makes a re-read harmless: an event leaves its group only in a completion, together with everything
else that the group has read, and a group never has an effect without one.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from conclave.domain.joining import Decision, Wait
from conclave.errors import Unbegun
from conclave.runtime.handler import Joiner
from conclave.runtime.record import Record
from conclave.runtime.translation import event_id
from schemas.events import Event

_LOOK_AGAIN_MS = 1_000  # at a group that may still grow, although its time is up
_STALE_WAKES = 64  # that may lie about beside four of each open group


@dataclass(slots=True)
class Group:
    """The open events of one key, by offset."""

    key: str
    records: dict[int, tuple[Record, Event]] = field(default_factory=dict)
    opened_ms: int = 0
    wake_ms: int | None = None

    @property
    def events(self) -> tuple[Event, ...]:
        """The group's events, in log order."""
        return tuple(self.records[offset][1] for offset in sorted(self.records))

    @property
    def offsets(self) -> tuple[int, ...]:
        """Their offsets, in log order."""
        return tuple(sorted(self.records))


class Decided(Struct, frozen=True):
    """A group that had its effect, and is closed here: its events and what they led to."""

    group: Group
    decision: Decision


@dataclass(frozen=True, slots=True)
class Failed:
    """A group that its joiner could not take, and is closed here."""

    group: Group
    error: Exception


class Groups:
    """All open groups of one partition."""

    def __init__(self, joiner: Joiner) -> None:
        self._joiner = joiner
        self._groups: dict[str, Group] = {}
        self._wakes: list[tuple[int, str]] = []
        self._order: dict[int, str] = {}  # offset -> key, oldest first as offsets arrive in order
        self._carries: dict[str, set[str]] = {}  # ids of those that are under way, by key
        self.is_read_back = False  # all that the log had when the lane was opened has been read

    def __len__(self) -> int:
        return len(self._groups)

    def clear(self) -> None:
        """Forgets everything: the log still has it."""
        self._groups.clear()
        self._wakes.clear()
        self._order.clear()
        self._carries.clear()
        self.is_read_back = False

    def add(self, record: Record, event: Event, now_ms: int) -> str | Failed:
        """The key of the group that `event` joins; call `decide` for it afterwards. Failed when the joiner has none for it."""
        try:
            key = self._joiner.key(event)
        except Exception as error:
            return Failed(Group("", {record.offset: (record, event)}, now_ms), error)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key, opened_ms=now_ms)
        group.records[record.offset] = (record, event)
        if (under_way := self._carries.get(key)) is not None:
            under_way.discard(event_id(record))
            if not under_way:
                del self._carries[key]
        self._order[record.offset] = key
        return key

    def decide(self, key: str, now_ms: int) -> Decided | Failed | None:
        """What the group came to; None while it waits (or is closed already)."""
        group = self._groups.get(key)
        if group is None:
            return None
        try:
            outcome = self._joiner.join(group.events, now_ms)
        except Exception as error:
            if isinstance(error, Unbegun) and self._may_grow(key):
                self._set_wake(group, now_ms + _LOOK_AGAIN_MS)
                return None
            self._close(group)
            return Failed(group, error)
        match outcome:
            case Decision(once_read=True) if self._may_grow(key):
                self._set_wake(group, now_ms + _LOOK_AGAIN_MS)
                return None
            case Decision():
                self._close(group)
                return Decided(group, outcome)
            case Wait(until_ms=until_ms):
                self._set_wake(group, until_ms)
                return None

    def expect(self, key: str, carry_id: str) -> None:
        """Notes that a carry of a group of this key is on its way through the log: there may be several, of parts of a group."""
        self._carries.setdefault(key, set()).add(carry_id)

    def due(self, now_ms: int) -> Iterator[str]:
        """The keys of groups that asked to be joined again by now."""
        while self._wakes and self._wakes[0][0] <= now_ms:
            wake_ms, key = heapq.heappop(self._wakes)
            group = self._groups.get(key)
            if group is not None and group.wake_ms == wake_ms:
                group.wake_ms = None
                yield key

    def carry_oldest(self, is_old: Callable[[Group], bool]) -> Decided | Failed | None:
        """The group that holds the watermark back, carried forward with no other effect; None when it is young."""
        oldest = next(iter(self._order.values()), None)
        group = self._groups[oldest] if oldest is not None else None
        if group is None or not is_old(group):
            return None
        self._close(group)
        try:
            return Decided(group, Decision((), self._joiner.carry(group.events)))
        except Exception as error:
            return Failed(group, error)

    def _may_grow(self, key: str) -> bool:
        """True while something that was written to this group may lie further on in the log."""
        return key in self._carries or not self.is_read_back

    def _close(self, group: Group) -> None:
        del self._groups[group.key]
        for offset in group.records:
            self._order.pop(offset, None)

    def _set_wake(self, group: Group, until_ms: int | None) -> None:
        is_new = until_ms is not None and group.wake_ms != until_ms
        group.wake_ms = until_ms
        if is_new and until_ms is not None:
            heapq.heappush(self._wakes, (until_ms, group.key))
            if len(self._wakes) > _STALE_WAKES + 4 * len(self._groups):
                self._forget_stale_wakes()

    def _forget_stale_wakes(self) -> None:
        """Drops those of groups that are closed, or wait for another time: a deadline may be a day away."""
        self._wakes = [(each.wake_ms, key) for key, each in self._groups.items() if each.wake_ms is not None]
        heapq.heapify(self._wakes)


def records_of(group: Group) -> Sequence[Record]:
    """The group's records, in log order."""
    return [group.records[offset][0] for offset in group.offsets]
