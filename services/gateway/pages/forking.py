"""A recorded request asked again from one of its steps: what was decided before it is kept, and costs nothing."""

from collections.abc import Sequence

from conclave.store import trace
from conclave.store.trace import Story
from schemas.events import ReasoningRequested
from schemas.ids import RequestId
from schemas.values import Fork, KeptStep, Outcome, Step, TallyRow

FORKED_FROM = "forked_from"  # the tag by which a fork's page finds the request that it came from
_MAX_TALLY_ROWS = 8


def forked(story: Story, from_step: int, request_id: RequestId) -> ReasoningRequested | None:
    """The request that goes on from the story's step, by its policy; None where a step before it was never decided."""
    kept = _kept(story.steps, from_step)
    if kept is None or not story.question:
        return None
    return ReasoningRequested(
        request_id=request_id,
        question=story.question,
        policy=story.line.policy,
        max_samples=story.max_samples,
        tags={FORKED_FROM: story.line.request_id, "from_step": str(from_step)},
        fork=Fork(request_id=story.line.request_id, kept=kept),
    )


def _kept(steps: Sequence[trace.Step], from_step: int) -> tuple[KeptStep, ...] | None:
    before = steps[:from_step]
    is_whole = [step.step_index for step in steps[: from_step + 1]] == list(range(from_step + 1))
    if not is_whole or not all(step.is_decided for step in before):
        return None
    return tuple(_kept_step(step) for step in before)


def _kept_step(step: trace.Step) -> KeptStep:
    rows = step.tally[:_MAX_TALLY_ROWS]
    return KeptStep(
        step=Step(
            index=step.step_index,
            ask=step.ask,
            fields=dict(step.fields),
            mark=step.mark,
            depends_on=step.depends_on,
            why=step.why,
        ),
        outcome=Outcome(step.outcome or Outcome.NO_ANSWER),
        answer=step.answer,
        confidence=step.confidence or 0.0,
        margin=step.margin or 0.0,
        tally=tuple(TallyRow(answer=row.answer, votes=row.votes, weight=row.weight) for row in rows),
    )
