"""Events for tests, with everything that a test does not care about filled in."""

from conclave.domain.policies import POLICIES
from conclave.domain.stopping import leader_confidence
from schemas.events import PathDecoded, PathFailed, PlanMade, StepDecided
from schemas.ids import derived_request_id
from schemas.values import (
    Ballot,
    FinishReason,
    Outcome,
    PathFailure,
    Policy,
    Route,
    Step,
    StepContext,
    StopReason,
    TallyRow,
)

NOW_MS = 1_795_470_000_000
DEADLINE_MS = NOW_MS + 600_000
REQUEST_ID = derived_request_id(NOW_MS - 50, "tests")


def context(policy: Policy = POLICIES["default"], **changes: object) -> StepContext:
    """A step's context; `changes` replace any of its fields."""
    values: dict[str, object] = {
        "request_id": REQUEST_ID,
        "step_index": 0,
        "policy": policy,
        "fields": {"question": "2+2?"},
        "deadline_ms": DEADLINE_MS,
    }
    return StepContext(**(values | changes))  # type: ignore[arg-type]


def decoded(of: StepContext, sample_index: int, launched: int, answer: str | None) -> PathDecoded:
    """A path with that answer, which cost 10 tokens in and 5 out."""
    return PathDecoded(
        context=of,
        sample_index=sample_index,
        launched=launched,
        text="thoughts",
        answer=answer,
        finish_reason=FinishReason.STOP,
        tokens_in=10,
        tokens_out=5,
        mean_logprob=-0.25,
        min_logprob=-1.5,
        queued_ms=1.0,
        first_token_ms=2.0,
        total_ms=3.0,
        model="model",
        engine="engine",
    )


def failed(of: StepContext, sample_index: int, launched: int, failure: PathFailure = PathFailure.ENGINE) -> PathFailed:
    """A sample that became no path."""
    return PathFailed(context=of, sample_index=sample_index, launched=launched, failure=failure, message="no luck")


def plan(*depends_on: tuple[int, ...], policy: Policy = POLICIES["default"]) -> PlanMade:
    """A plan with a step for each entry, which says what the step depends on."""
    steps = tuple(
        Step(index=index, question=f"part {index}?", depends_on=on) for index, on in enumerate(depends_on or ((),))
    )
    return PlanMade(
        request_id=REQUEST_ID,
        question="all of it?",
        route=Route.EXPLICIT,
        arm="default",
        propensity=1.0,
        policy=policy,
        steps=steps,
        deadline_ms=DEADLINE_MS,
    )


def verdict(step_index: int = 0, answer: str | None = "4", *, num_votes: int = 4, **changes: object) -> StepDecided:
    """A unanimous verdict, or one without an answer."""
    ballots = tuple(Ballot(sample_index=index, answer=answer, tokens_in=10, tokens_out=5) for index in range(num_votes))
    values: dict[str, object] = {
        "request_id": REQUEST_ID,
        "step_index": step_index,
        "outcome": Outcome.MAJORITY if answer else Outcome.NO_ANSWER,
        "stop_reason": StopReason.CONFIDENT if answer else StopReason.EXHAUSTED,
        "answer": answer,
        "confidence": leader_confidence(num_votes, 0) if answer else 0.0,
        "margin": 1.0 if answer else 0.0,
        "agreement": 1.0 if answer else 0.0,
        "entropy": 0.0,
        "tally": (TallyRow(answer=answer, votes=num_votes, weight=float(num_votes)),) if answer else (),
        "ballots": ballots,
        "launched": num_votes,
        "arm": "default",
        "policy": "default",
        "decided_ms": NOW_MS,
    }
    return StepDecided(**(values | changes))  # type: ignore[arg-type]
