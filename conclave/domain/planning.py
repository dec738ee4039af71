"""From a request to a plan, and from a plan to the samples of its steps."""

from collections.abc import Collection, Mapping

from msgspec.structs import replace

from conclave.domain.policies import DIRECT
from conclave.domain.stopping import next_wave
from schemas.events import PlanMade, ReasoningRequested, SampleRequested
from schemas.values import MAX_QUESTION_CHARS, Policy, Route, Step, StepContext

# No request may wait longer than a day (ReasoningRequested.deadline_s); another day covers clocks that disagree.
MAX_DEADLINE_AHEAD_MS = 2 * 86_400_000

# The form that asks the same of a step of several, which is told what earlier ones came to.
_OF_SEVERAL = {"chain_of_thought": "sub_question"}
_NOTHING = "nothing"  # what a step that depends on no other is told


def plan(request: ReasoningRequested, request_id: str, policy: Policy, asked_ms: int) -> PlanMade:
    """The plan for a request: for now the question itself as its only step."""
    if request.max_samples is not None:
        policy = replace(policy, max_samples=request.max_samples)
    return PlanMade(
        request_id=request_id,
        question=request.question,
        route=Route.DIRECT if policy.form == DIRECT else Route.EXPLICIT,
        arm="default",
        propensity=1.0,
        policy=policy,
        steps=(Step(index=0, question=request.question),),
        deadline_ms=asked_ms + round(request.deadline_s * 1000),
    )


def first_steps(plan: PlanMade) -> tuple[int, ...]:
    """The steps that need no other: whoever makes the plan launches them with it."""
    return tuple(step.index for step in plan.steps if not step.depends_on)


def released_steps(plan: PlanMade, decided: Collection[int], launched: Collection[int]) -> tuple[int, ...]:
    """The steps that may start now: not launched yet, and all that they depend on is decided."""
    waiting = (step for step in plan.steps if step.index not in launched)
    return tuple(step.index for step in waiting if all(needed in decided for needed in step.depends_on))


def step_context(plan: PlanMade, step_index: int, answers: Mapping[int, str]) -> StepContext:
    """What the samples of a step carry. `answers` holds those of the steps it depends on, by index.

    The prompt form is given `question` and, for one of several steps, what those that it depends on came to: a line
    each, as `#1 = 36` in `earlier` and as `#1: how many … = 36` in `earlier_in_full`; "nothing" where it depends on
    none. A step's number counts from 1, as in the text of a plan; its question says `#1` where it means that answer.
    """
    step = plan.steps[step_index]
    policy, fields = plan.policy, {"question": step.question}
    if len(plan.steps) > 1:
        policy = replace(policy, form=_OF_SEVERAL.get(policy.form, policy.form))
        needed = sorted(set(step.depends_on))
        lines = [f"#{index + 1} = {answers[index]}" for index in needed]
        in_full = [f"#{index + 1}: {plan.steps[index].question} = {answers[index]}" for index in needed]
        fields["earlier"] = "\n".join(lines)[:MAX_QUESTION_CHARS] or _NOTHING
        fields["earlier_in_full"] = "\n".join(in_full)[:MAX_QUESTION_CHARS] or _NOTHING
    return StepContext(
        request_id=plan.request_id,
        step_index=step_index,
        policy=policy,
        fields=fields,
        deadline_ms=plan.deadline_ms,
        arm=plan.arm,
    )


def wave(context: StepContext, num_launched: int, num_samples: int) -> tuple[SampleRequested, ...]:
    """The next `num_samples` samples of a step that has `num_launched` already."""
    launched = num_launched + num_samples
    indexes = range(num_launched, launched)
    return tuple(SampleRequested(context=context, sample_index=index, launched=launched) for index in indexes)


def first_wave(context: StepContext) -> tuple[SampleRequested, ...]:
    """The samples that a step starts with: as many as its stopping rule needs at least."""
    return wave(context, 0, next_wave((), context.policy))
