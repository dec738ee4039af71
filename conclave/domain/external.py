"""Tools that are no part of a path, as they have an effect, run code or reach a network. A step calls one, without paths or a vote.

    a step whose ask has the program `external`     ToolRequested, to the service `tools`, which calls it and says what came of it
    … and `approval_s`                              ApprovalRequested first: it is called once ApprovalGiven says yes, within so
                                                    many seconds since the request was asked
Its verdict is what the tool observed (its answer), or has no answer and says why: it failed, was denied, or nobody said yes in
time.
"""

from dataclasses import dataclass
from enum import StrEnum

from conclave.domain import bounds
from conclave.domain.params import Param, Params, number
from schemas.events import ApprovalRequested, StepDecided, ToolRequested
from schemas.ids import asked_at_ms
from schemas.values import Ask, Call, Outcome, StepContext, TallyRow, Verdict, Wording

PROGRAM = "external"
PARAMS: Params = {"approval_s": Param(0.0, 0.0, 86_400.0)}  # 0: it needs nobody's yes


class CallEnd(StrEnum):
    """How a call ended: the stop reason of its step."""

    OBSERVED = "observed"
    FAILED = "failed"  # it was tried, and came to nothing, or to nobody knows what
    DENIED = "denied"
    UNAPPROVED = "unapproved"  # nobody said yes in time


class Known(StrEnum):
    """What a ledger knows of a call."""

    NEW = "new"  # and from now on begun
    BEGUN = "begun"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Entry:
    """A call in a ledger; `observed` is what came of one that is done, None where that isn't kept, and `is_failed` if it failed."""

    known: Known
    observed: str | None = ""
    is_failed: bool = False


def is_external(ask: Ask) -> bool:
    """True for an ask whose steps call a tool instead of sampling paths."""
    return ask.program == PROGRAM


def needs_approval(ask: Ask) -> bool:
    """True where somebody has to say yes first."""
    return is_external(ask) and number(ask.params, PARAMS, "approval_s") > 0.0


def approval_until_ms(ask: Ask, request_id: str, deadline_ms: int) -> int:
    """Until when a yes is waited for: no longer than until the request's deadline."""
    return min(deadline_ms, asked_at_ms(request_id) + round(1000 * number(ask.params, PARAMS, "approval_s")))


def call_of(context: StepContext) -> Call:
    """The call that a step is: its ask's one tool, on its `argument`, or on its question."""
    fields = context.step.fields
    return Call(context.ask.tools[0], fields.get("argument", fields.get("question", "")))


def begun(context: StepContext) -> ToolRequested | ApprovalRequested:
    """What a step begins with."""
    if not needs_approval(context.ask):
        return released(context)
    until_ms = approval_until_ms(context.ask, context.request_id, context.deadline_ms)
    return ApprovalRequested(context=context, call=call_of(context), until_ms=until_ms)


def released(context: StepContext) -> ToolRequested:
    """The call itself, where it needs no yes or has it."""
    return ToolRequested(context=context, call=call_of(context), is_approved=needs_approval(context.ask))


def decided(context: StepContext, end: CallEnd, text: str, now_ms: int) -> StepDecided:
    """The verdict on a step: what was observed is its answer; why there is none stands in its tally, for no votes."""
    text = bounds.cut(" ".join(text.split("\0")).strip() or "(nothing)", bounds.MAX_ANSWER_BYTES)[:4096]
    is_observed = end is CallEnd.OBSERVED
    return StepDecided(
        request_id=context.request_id,
        step_index=context.step_index,
        outcome=Outcome.MAJORITY if is_observed else Outcome.NO_ANSWER,
        stop_reason=end.value,
        answer=text if is_observed else None,
        confidence=1.0 if is_observed else 0.0,  # that the tool said so
        margin=1.0 if is_observed else 0.0,
        agreement=1.0 if is_observed else 0.0,
        entropy=0.0,
        tally=(TallyRow(answer=text, votes=int(is_observed), weight=float(is_observed)),),
        ballots=(),
        launched=0,
        arm=context.arm,
        policy=context.policy,
        decided_ms=now_ms,
    )


def told(argument: str, verdict: Verdict, words: Wording) -> str:
    """A call and what it came to, in the words of the step that is told of it."""
    if verdict.answer is not None:
        return words.called.format_map({"argument": argument, "result": verdict.answer})
    why = verdict.tally[0].answer if verdict.tally else words.no_answer
    return words.not_called.format_map({"argument": argument, "reason": verdict.stop_reason, "why": why})
