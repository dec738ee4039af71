"""Events for tests, with everything that a test does not care about filled in."""

from msgspec.structs import replace

from conclave.domain import thinking
from conclave.domain.stopping import leader_confidence
from conclave.domain.strategies import STRATEGIES
from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest
from conclave.policies import shipped
from schemas.events import AnswerReached, ExperimentChanged, PathDecoded, PathFailed, PlanMade, StepDecided
from schemas.experiments import Arm, Change, Experiment
from schemas.ids import derived_request_id
from schemas.values import (
    Ask,
    Ballot,
    FinishReason,
    Outcome,
    PathFailure,
    Policy,
    Step,
    StepContext,
    StopReason,
    TallyRow,
)

NOW_MS = 1_795_470_000_000
DEADLINE_MS = NOW_MS + 600_000
REQUEST_ID = derived_request_id(NOW_MS - 50, "tests")


def policy(name: str = "default") -> Policy:
    """A policy that ships."""
    found = shipped().find(name)
    assert found is not None, name
    return found


def ask(name: str = "default", **changes: object) -> Ask:
    """How a policy that ships puts the whole question; `changes` replace any of its fields."""
    return replace(policy(name).asks["whole"], **changes)


def context(of: Ask | None = None, **changes: object) -> StepContext:
    """A step's context; `changes` replace any of its fields, and any of its step's."""
    step: dict[str, object] = {"index": 0, "fields": {"question": "2+2?"}}
    step |= {name: changes.pop(name) for name in Step.__struct_fields__ if name in changes and name != "ask"}
    values: dict[str, object] = {
        "request_id": REQUEST_ID,
        "step": Step(**step),  # type: ignore[arg-type]
        "ask": ask() if of is None else of,
        "prompt_set": "reasoner-v3",
        "policy": "default",
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


def plan(num_steps: int = 1, of: Policy | None = None) -> PlanMade:
    """A plan that asks so many steps at once."""
    return PlanMade(
        request_id=REQUEST_ID,
        question="all of it?",
        arm="default",
        propensity=1.0,
        policy=of or policy(),
        steps=tuple(Step(index=index, fields={"question": f"part {index}?"}) for index in range(num_steps)),
        deadline_ms=DEADLINE_MS,
    )


def policy_of(strategy: str, **changes: object) -> Policy:
    """A policy of any strategy, whose asks are all put alike; `changes` replace any of its fields."""
    asks = {name: Ask(form=name) for name in STRATEGIES[strategy].asks}
    values: dict[str, object] = {"name": "made", "prompt_set": "reasoner-v3", "strategy": strategy, "asks": asks}
    return Policy(**(values | changes))  # type: ignore[arg-type]


def endless(told: str) -> Strategy:
    """A strategy that asks one step after the other, each of which is told `told`, until it must end."""

    def think(thought: Thought) -> Grow | Conclude:
        if thought.must_end:
            return surest(thought)
        index = len(thought.steps)
        return Grow((Step(index=index, fields={"question": "and now?", "earlier": told}),))

    return Strategy(think, asks={"whole": ("question",)})


def opened(of: Policy) -> PlanMade:
    """The plan that a policy's strategy opens with."""
    return replace(plan(of=of), steps=thinking.opening("all of it?", of))


def verdict(step_index: int = 0, answer: str | None = "4", *, num_votes: int = 4, **changes: object) -> StepDecided:
    """A unanimous verdict, or one without an answer."""
    ballots = tuple(Ballot(sample_index=index, answer=answer, tokens_in=10, tokens_out=5) for index in range(num_votes))
    values: dict[str, object] = {
        "request_id": REQUEST_ID,
        "step_index": step_index,
        "outcome": Outcome.MAJORITY if answer else Outcome.NO_ANSWER,
        "stop_reason": (StopReason.CONFIDENT if answer else StopReason.EXHAUSTED).value,
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


def answer(text: str = "4", **changes: object) -> AnswerReached:
    """A request's answer, from one step of four paths that agreed."""
    values: dict[str, object] = {
        "request_id": REQUEST_ID,
        "answer": text,
        "outcome": Outcome.MAJORITY,
        "confidence": 0.96875,
        "margin": 1.0,
        "strategy": "vote",
        "arm": "default",
        "policy": "default",
        "answered_by": 0,
        "steps": (),
        "tally": (TallyRow(answer=text, votes=4, weight=4.0),),
        "num_paths": 4,
        "tokens_in": 40,
        "tokens_out": 20,
        "elapsed_ms": 50.0,
    }
    return AnswerReached(**(values | changes))  # type: ignore[arg-type]


def experiment(**changes: object) -> Experiment:
    """A comparison of the policies `default` and `single` by the rewards of requests; `changes` replace any of its fields."""
    values: dict[str, object] = {
        "name": "trial",
        "arms": {"a": Arm(policy="default"), "b": Arm(policy="single")},
        "control": "a",
    }
    return Experiment(**(values | changes))  # type: ignore[arg-type]


def started(of: Experiment | None = None, revision: int = 1, **changes: object) -> ExperimentChanged:
    """The start of an experiment; `changes` replace any of its fields."""
    definition = of or experiment()
    values: dict[str, object] = {
        "experiment": definition.name,
        "revision": revision,
        "change": Change.START,
        "definition": definition,
        "by": "ann",
        "why": "to see",
        "changed_ms": NOW_MS,
    }
    return ExperimentChanged(**(values | changes))  # type: ignore[arg-type]
