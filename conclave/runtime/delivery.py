"""A record on its way through this process, and what is done when what it was read for has ended."""

import logging

import structlog
from msgspec import Struct

from conclave.runtime import metrics
from conclave.runtime.endings import Ending
from conclave.runtime.groups import Group
from conclave.runtime.lane import Lane
from conclave.runtime.record import Record
from conclave.runtime.translation import event_id
from schemas.envelope import header

log = structlog.get_logger(__name__)


class Delivery(Struct, frozen=True):
    """A record, and the lane that it came by."""

    lane: Lane
    record: Record

    def __str__(self) -> str:
        return f"{self.lane.tp}/{self.record.offset}"

    def done(self, ending: Ending, *, worked_s: float = 0.0) -> None:
        """Hands what became of the record, after so many seconds of work, to its lane's outbox; counts and logs it."""
        _hand_over(self.lane, ending, worked_s=worked_s)
        if not log.is_enabled_for(logging.INFO):
            return  # to find out what would be said costs as much as to hand it over
        log.info(
            "message_handled",
            partition=str(self.lane.tp),
            offset=self.record.offset,
            outcome=ending.outcome,
            event_id=event_id(self.record),
        )


def group_done(lane: Lane, group: Group, ending: Ending) -> None:
    """The same for all records of a group."""
    _hand_over(lane, ending)
    if ending.carry is not None and lane.groups is not None:
        lane.groups.expect(group.key, header(ending.carry.headers, "ce_id") or "")
    log.info(
        "group_decided",
        partition=str(lane.tp),
        key=group.key,
        events=len(group.offsets),
        outcome=ending.outcome,
    )


def _hand_over(lane: Lane, ending: Ending, *, worked_s: float = 0.0) -> None:
    lane.submit(ending.completion, worked_s=worked_s)
    metrics.messages(lane.tp.topic, ending.outcome).inc(len(ending.completion.offsets))
