"""From a request to a plan, and from a step to its samples."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from conclave.domain import budget, complexity, counting, external, thinking
from conclave.domain.affinity import affinity
from conclave.domain.complexity.needs import Needs
from conclave.domain.priorities import DEFAULT_PRIORITY
from conclave.domain.quality import of_quality
from conclave.domain.structured import answer_schema
from conclave.domain.structured.asking import of_schema
from schemas.events import ApprovalRequested, PlanMade, ReasoningRequested, SampleRequested, ToolRequested
from schemas.values import Allowance, Ask, Policy, Step, StepContext, Verdict

# No request may wait longer than a day (ReasoningRequested.deadline_s); another day covers clocks that disagree.
MAX_DEADLINE_AHEAD_MS = 2 * 86_400_000


def plan(
    request: ReasoningRequested,
    request_id: str,
    policy: Policy,
    asked_ms: int,
    *,
    reasons: Mapping[str, str] = MappingProxyType({}),
    needs: Needs | None = None,
) -> PlanMade:
    """The plan for a request: the steps that the policy's strategy asks first; `needs` is what is learned of how much that takes.

    Raises: Rejected when there are no steps, and for a schema of its answer that can't be taken.
    """
    fitted, effort = complexity.fitted(policy, request.question, needs)
    seconds = fitted.budget.max_seconds
    kept = request.fork.kept if request.fork is not None else ()
    forked = {} if request.fork is None else {"forked from": f"{request.fork.request_id}, {len(kept)} steps kept"}
    return PlanMade(
        request_id=request_id,
        question=request.question,
        arm="default",
        propensity=1.0,
        policy=fitted,
        steps=thinking.opening(request.question, fitted, kept),
        deadline_ms=asked_ms + round(request.deadline_s * 1000),
        spent_ms=None if seconds is None or seconds >= request.deadline_s else asked_ms + round(seconds * 1000),
        max_samples=request.max_samples,
        quality=request.quality,
        priority=request.priority or DEFAULT_PRIORITY,
        answer_schema="" if request.answer_schema is None else answer_schema.accepted(request.answer_schema),
        reasons={**reasons, **effort, **forked},
        max_tokens=request.max_tokens,
        max_turn_tokens=request.max_turn_tokens,
    )


def step_contexts(plan: PlanMade, steps: Sequence[Step], verdicts: Sequence[Verdict] = ()) -> list[StepContext]:
    """What the samples of steps carry that are asked together, after these verdicts: what is left to spend is shared."""
    left = budget.left(plan.policy, verdicts, own=plan.max_tokens)
    return [_step_context(plan, step, left, len(steps)) for step in steps]


def step_context(plan: PlanMade, step: Step) -> StepContext:
    """The same of a step that is asked alone, before any other."""
    return step_contexts(plan, [step])[0]


def _step_context(plan: PlanMade, step: Step, left: Allowance, num_steps: int) -> StepContext:
    ask = of_quality(_limited(plan.policy.asks[step.ask], plan), plan.quality)
    ask = of_schema(ask, plan.answer_schema)
    return StepContext(
        request_id=plan.request_id,
        step=step,
        ask=budget.limited(ask, left, num_steps),
        prompt_set=plan.policy.prompt_set,
        policy=plan.policy.name,
        deadline_ms=plan.ends_ms,
        arm=plan.arm,
        priority=plan.priority,
        tenant=plan.tenant,
        conversation=plan.conversation,
    )


def wave(context: StepContext, num_launched: int, num_samples: int) -> tuple[SampleRequested, ...]:
    """The next `num_samples` samples of a step that has `num_launched` already."""
    launched = num_launched + num_samples
    return tuple(
        SampleRequested(context=context, sample_index=index, launched=launched, affinity=affinity(context, index))
        for index in range(num_launched, launched)
    )


def first_wave(context: StepContext) -> tuple[SampleRequested, ...]:
    """The samples that a step starts with, by its schedule: as many as its stopping rule needs, at least."""
    return wave(context, 0, counting.launch((), 0, context.ask))


def begun(context: StepContext) -> tuple[SampleRequested | ToolRequested | ApprovalRequested, ...]:
    """What a step starts with: its first samples, or the call that it is instead."""
    return (external.begun(context),) if external.is_external(context.ask) else first_wave(context)


def _limited(ask: Ask, plan: PlanMade) -> Ask:
    """An ask with a request's own limits on samples and tokens. What is asked once is no vote, and stays one sample."""
    if plan.max_samples is not None and ask.max_samples != 1:
        ask = replace(ask, max_samples=plan.max_samples)
    if plan.max_turn_tokens is not None and plan.max_turn_tokens < ask.max_tokens:
        ask = replace(ask, max_tokens=plan.max_turn_tokens)
    return ask
