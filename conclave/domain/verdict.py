"""The verdict on a step, made of its count: by the voter that decides it, and by a replay that decides it again."""

from conclave.domain.counting import Counted
from schemas.events import StepDecided
from schemas.values import Outcome, StepContext, StopReason


def verdict_on(
    context: StepContext, counted: Counted, reason: StopReason, *, launched: int, decided_ms: int
) -> StepDecided:
    """The event. Its reason is the one given, unless the model declined, or a vote that was not cut short had no consensus."""
    result = counted.result
    if counted.is_declined:
        reason = StopReason.DECLINED
    elif result.outcome is Outcome.NO_ANSWER and result.tally and reason is not StopReason.DEADLINE:
        reason = StopReason.NO_CONSENSUS
    return StepDecided(
        request_id=context.request_id,
        step_index=context.step_index,
        outcome=result.outcome,
        stop_reason=reason.value,
        answer=result.answer,
        confidence=counted.confidence,
        margin=result.margin,
        agreement=result.agreement,
        entropy=result.entropy,
        tally=result.tally,
        ballots=counted.ballots,
        launched=launched,
        arm=context.arm,
        policy=context.policy,
        decided_ms=decided_ms,
        fields=counted.fields,
    )
