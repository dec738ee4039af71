"""Calls of tools that are no part of a path, and the yes or no to those that wait for it."""

from schemas.events.base import Event
from schemas.ids import StepId
from schemas.values import Call, Label, StepContext, StepIndex, TimestampMs, Uuid7


class ToolRequested(Event, frozen=True, kw_only=True):
    """A call of a tool that is no part of a path. It is made once, however often this is read: its step's id is its key."""

    context: StepContext
    call: Call
    is_approved: bool = False  # somebody said yes to it

    @property
    def step_id(self) -> StepId:
        """The step that makes the call."""
        return self.context.step_id


class ApprovalRequested(Event, frozen=True, kw_only=True):
    """A call that is made only if somebody says yes. Nobody acts on it but people: it waits in the thought of its request."""

    context: StepContext
    call: Call
    until_ms: TimestampMs  # then it is not made any more

    @property
    def step_id(self) -> StepId:
        """The step that would make the call."""
        return self.context.step_id


class ApprovalGiven(Event, frozen=True, kw_only=True):
    """Somebody's yes or no to a call that waits for it. The first counts, and of those that come together a no."""

    request_id: Uuid7
    step_index: StepIndex
    is_approved: bool
    given_by: Label
    why: Label = ""
    until_ms: TimestampMs  # when it is forgotten, where no request is open under this id
