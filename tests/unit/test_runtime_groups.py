"""The open groups of a lane by themselves."""

from collections.abc import Sequence

from conclave.domain.joining import Decision, Wait
from conclave.runtime.dead_letters import Cause
from conclave.runtime.groups import Decided, Groups
from conclave.testing import events as made
from conclave.testing.log import StoredRecord
from schemas.events import Event, PathDecoded

DAY_MS = 86_400_000


class Pairs:
    """Decides what has two events, and has all else wait for a day."""

    def key(self, event: Event) -> str:
        assert isinstance(event, PathDecoded)
        return event.context.step_id

    def join(self, events: Sequence[Event], now_ms: int) -> Decision | Wait:
        return Decision(()) if len(events) == 2 else Wait(now_ms + DAY_MS)

    def carry(self, events: Sequence[Event]) -> Event:
        return events[0]

    def give_up(self, events: Sequence[Event], cause: Cause, now_ms: int) -> Decision:
        return Decision(())


def path_of(step_index: int) -> PathDecoded:
    return made.decoded(made.context(index=step_index), 0, 4, "4")


def record(offset: int) -> StoredRecord:
    return StoredRecord("reasoning.paths", 0, offset, 0, b"k", b"{}", ())


def test_groups_that_are_closed_wait_for_no_deadline_in_memory() -> None:
    groups, waiting = Groups(Pairs()), path_of(0)
    groups.decide(str(groups.add(record(0), waiting, 0)), 0)
    for number in range(1, 2001, 2):
        path = path_of(number)
        key = str(groups.add(record(number), path, number))
        assert groups.decide(key, number) is None
        groups.add(record(number + 1), path, number + 1)
        assert isinstance(groups.decide(key, number + 1), Decided)
    assert len(groups) == 1
    assert len(groups._wakes) < 100, "a thousand closed groups are remembered for a day"
    assert list(groups.due(DAY_MS - 1)) == []
    assert list(groups.due(DAY_MS)) == [waiting.context.step_id], "what is still open is forgotten"
