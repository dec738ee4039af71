"""Joins the groups of a lane: those that an event touched, those whose time has come, those that hold the watermark back."""

from collections.abc import Callable

import structlog

from conclave.runtime import dead_letters, metrics
from conclave.runtime.delivery import group_done
from conclave.runtime.endings import Endings
from conclave.runtime.groups import Decided, Failed
from conclave.runtime.lane import Lane
from conclave.runtime.record import Record
from schemas.events import Event

_MAX_CARRIES = 100  # of one lane at once

log = structlog.get_logger(__name__)


class Joining:
    """Puts groups to the joiner of their lane and hands what it decides to the lane's outbox."""

    def __init__(self, endings: Endings, clock_ms: Callable[[], int], *, carry_after_s: float, carry_span: int) -> None:
        self._endings, self._clock_ms = endings, clock_ms
        self._carry_after_ms, self._carry_span = carry_after_s * 1000, carry_span

    def add(self, lane: Lane, record: Record, event: Event) -> str | None:
        """The key of the group that the event joins, which has to be touched next; None when it is given up at once."""
        assert lane.groups is not None
        added = lane.groups.add(record, event, self._clock_ms())
        if isinstance(added, str):
            return added
        self._apply(lane, added)
        return None

    def touch(self, lane: Lane, key: str) -> None:
        """Decides the group of `key` if it is complete or its time has come; nothing for a lane without groups."""
        if lane.groups is not None:
            self._apply(lane, lane.groups.decide(key, self._clock_ms()))

    def touch_due(self, lane: Lane, now_ms: int) -> None:
        """Decides the groups whose time has come and carries old ones forward once they hold the watermark back."""
        if lane.groups is None:
            return
        for key in list(lane.groups.due(now_ms)):
            self.touch(lane, key)
        for _ in range(_MAX_CARRIES):
            if lane.tracker.span < self._carry_span:
                return
            outcome = lane.groups.carry_oldest(lambda group: now_ms - group.opened_ms >= self._carry_after_ms)
            if outcome is None:
                return
            metrics.CARRIED_FORWARD.labels(lane.tp.topic).inc()
            self._apply(lane, outcome)

    def _apply(self, lane: Lane, outcome: Decided | Failed | None) -> None:
        match outcome:
            case Decided(group=group, decision=decision):
                group_done(lane, group, self._endings.decided(group, decision))
            case Failed(group=group, error=error):
                group_done(lane, group, self._endings.group_failed(group, dead_letters.cause_of(error)))
            case None:
                pass
