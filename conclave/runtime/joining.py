"""Joins the groups of a lane: those that an event touched, those whose time has come, those that hold the watermark back."""

import structlog

from conclave.domain.joining import Decision
from conclave.errors import Rejected
from conclave.runtime import dead_letters, metrics
from conclave.runtime.groups import Decided, Failed, Group, records_of
from conclave.runtime.intake import Publisher
from conclave.runtime.lane import Completion, Lane
from conclave.runtime.tracker import MAX_SPAN

_MAX_CARRIES = 100  # of one lane at once

log = structlog.get_logger(__name__)


class Joining:
    """Puts groups to the joiner of their lane and hands what it decides to the lane's outbox."""

    def __init__(self, publisher: Publisher, *, carry_after_s: float) -> None:
        self._publisher, self._carry_after_ms = publisher, carry_after_s * 1000

    def join(self, lane: Lane, key: str) -> None:
        """Decides the group of `key` if it is complete or its time has come; nothing for a lane without groups."""
        if lane.groups is not None:
            self._apply(lane, lane.groups.join(key, self._publisher.clock_ms()))

    def join_due(self, lane: Lane, now_ms: int) -> None:
        """Decides the groups whose time has come and carries old ones forward once they hold the watermark back."""
        if lane.groups is None:
            return
        for key in list(lane.groups.due(now_ms)):
            self.join(lane, key)
        for _ in range(_MAX_CARRIES):
            if lane.tracker.span < MAX_SPAN // 2:
                return
            outcome = lane.groups.carry_oldest(lambda group: now_ms - group.opened_ms >= self._carry_after_ms)
            if outcome is None:
                return
            metrics.CARRIED_FORWARD.labels(lane.tp.topic).inc()
            self._apply(lane, outcome)

    def _apply(self, lane: Lane, outcome: Decided | Failed | None) -> None:
        match outcome:
            case Decided(group=group, decision=Decision(outputs=outputs, carry=carry)):
                records = records_of(group)
                completion = self._publisher.complete(records[0], group.offsets, outputs, carry)
                kinds = ",".join(sorted({type(event).__name__ for event in outputs})) or "absorbed"
                _finish(lane, group, kinds, completion)
            case Failed(group=group, error=error):
                events = error.outputs if isinstance(error, Rejected) else ()
                cause = dead_letters.cause_of(error)
                completion = self._publisher.give_up(records_of(group), cause, events=events)
                _finish(lane, group, cause.reason.value, completion)
            case None:
                pass


def _finish(lane: Lane, group: Group, outcome: str, completion: Completion) -> None:
    lane.submit(completion)
    metrics.MESSAGES.labels(lane.tp.topic, outcome).inc(len(group.offsets))
    log.info("group_decided", partition=str(lane.tp), key=group.key, events=len(group.offsets), outcome=outcome)
