"""From a request to a plan, and from a step to its samples."""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from conclave.domain import counting, thinking
from conclave.domain.quality import of_quality
from schemas.events import PlanMade, ReasoningRequested, SampleRequested
from schemas.values import Ask, Policy, Step, StepContext

# No request may wait longer than a day (ReasoningRequested.deadline_s); another day covers clocks that disagree.
MAX_DEADLINE_AHEAD_MS = 2 * 86_400_000


def plan(
    request: ReasoningRequested,
    request_id: str,
    policy: Policy,
    asked_ms: int,
    *,
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> PlanMade:
    """The plan for a request: the steps that the policy's strategy asks first. Raises: Rejected when there are none."""
    return PlanMade(
        request_id=request_id,
        question=request.question,
        arm="default",
        propensity=1.0,
        policy=policy,
        steps=thinking.opening(request.question, policy),
        deadline_ms=asked_ms + round(request.deadline_s * 1000),
        max_samples=request.max_samples,
        quality=request.quality,
        reasons=dict(reasons),
    )


def step_context(plan: PlanMade, step: Step) -> StepContext:
    """What the samples of a step carry."""
    return StepContext(
        request_id=plan.request_id,
        step=step,
        ask=of_quality(_limited(plan.policy.asks[step.ask], plan.max_samples), plan.quality),
        prompt_set=plan.policy.prompt_set,
        policy=plan.policy.name,
        deadline_ms=plan.deadline_ms,
        arm=plan.arm,
    )


def wave(context: StepContext, num_launched: int, num_samples: int) -> tuple[SampleRequested, ...]:
    """The next `num_samples` samples of a step that has `num_launched` already."""
    launched = num_launched + num_samples
    indexes = range(num_launched, launched)
    return tuple(SampleRequested(context=context, sample_index=index, launched=launched) for index in indexes)


def first_wave(context: StepContext) -> tuple[SampleRequested, ...]:
    """The samples that a step starts with, by its schedule: as many as its stopping rule needs, at least."""
    return wave(context, 0, counting.launch((), 0, context.ask))


def _limited(ask: Ask, max_samples: int | None) -> Ask:
    """An ask with a request's own limit on samples. What is asked once is no vote, and stays as it is."""
    return ask if max_samples is None or ask.max_samples == 1 else replace(ask, max_samples=max_samples)
