"""Recorded requests thought about again under another policy, on the paths that there are, by the code that decides live ones.

A strategy is asked as it is live. A step that it asks is looked for among those that were recorded: with the same fields, put in
the same way (form, program, tools, sampling), so that the recorded paths are samples of it. They are counted in launch order by
the other policy's rules. What the recorded paths can't tell is `Unknown`, and never guessed: of that request nothing else is said.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec.structs import replace

from conclave.domain import bounds, counting, external, planning, thinking
from conclave.domain.replay import same
from conclave.domain.strategies import STRATEGIES
from conclave.domain.verdict import verdict_on
from conclave.errors import Rejected
from schemas.events import PlanMade, ReasoningRequested, StepDecided, ThoughtCarried
from schemas.values import Ask, Ballot, PathFailure, Policy, Step, StepContext, StopReason

# What came to an end that had nothing to do with the path itself: there, the recorded samples end.
_CUT_OFF = (PathFailure.CANCELLED, PathFailure.DEADLINE)
# What a path depends on, besides the room that it has. All else in an ask is about how paths are counted.
_DECODED_BY = ("form", "program", "max_turns", "tools", "temperature", "top_p", "answer_schema", "wording")
_WEIGHED_BY = ("weighing", "vote_weights", "calibration")


class Unknown(StrEnum):
    """Why recorded paths can't tell what a request would have come to."""

    MORE_SAMPLES = "more samples than were recorded"
    OTHER_PROMPT = "the question put in another way"
    OTHER_STEP = "a question that was not put"
    STRUCTURED = "a structured answer"
    JUDGE = "the word of a judge on formulas"
    EFFECT = "a tool that has an effect"


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """A step with the samples that were decoded for it. `ballots` are in launch order, without gaps."""

    step: Step
    ask: Ask
    prompt_set: str
    ballots: tuple[Ballot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """A request as it was served, with what was said of its answer. `propensity`: that it was served as it was.

    `draw` is its unit's in the `experiment` that dealt it out, by the definition of a `revision`.
    """

    request_id: str
    asked_ms: int
    question: str
    policy: Policy
    steps: tuple[RecordedStep, ...]
    answer: str | None
    num_samples: int  # that were counted
    tokens_out: int  # of these
    max_samples: int | None = None
    quality: str | None = None
    is_structured: bool = False
    propensity: float = 1.0
    reward: float | None = None
    right_answer: str | None = None
    experiment: str | None = None
    revision: int | None = None
    draw: int | None = None
    segment: str | None = None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a request would have come to, or why that is not known: then all else says nothing."""

    request: RecordedRequest
    unknown: Unknown | None = None
    answer: str | None = None
    num_samples: int = 0
    tokens_out: int = 0
    is_same: bool = False  # as the answer that was given, as the ask that decided compares answers


def usable(ballots: Iterable[Ballot]) -> tuple[Ballot, ...]:
    """The first samples that all came to an end by themselves, of ballots in launch order."""
    found: list[Ballot] = []
    for ballot in ballots:
        if ballot.sample_index != len(found) or ballot.failure in _CUT_OFF:
            break
        found.append(ballot)
    return tuple(found)


def with_weights(policy: Policy, weights: Policy) -> Policy:
    """The policy, whose votes weigh and whose confidences mean what those of the asks of the same name in `weights` do."""
    asks = dict(policy.asks)
    for name in asks.keys() & weights.asks.keys():
        taken = {each: getattr(weights.asks[name], each) for each in _WEIGHED_BY}
        asks[name] = replace(asks[name], **taken)
    return replace(policy, asks=asks)


def replayed(request: RecordedRequest, policy: Policy) -> Replayed:
    """What a request would have come to under `policy`. Deadlines are taken to be far away.

    1. the plan that the policy makes of the question, within the request's own limits
    2. each open step is decided on the recorded samples of that step
    3. the strategy is asked: more steps, or the end
    """
    if request.is_structured:
        return Replayed(request, Unknown.STRUCTURED)
    strategy = STRATEGIES[policy.strategy]
    try:
        plan = _plan(request, policy)  # 1
    except Rejected:
        return Replayed(request, Unknown.OTHER_STEP)
    state = ThoughtCarried(plan=plan, grown=(), verdicts=(), is_closed=False)
    spent = _Spent()
    while True:
        opened = [state.steps[index] for index in thinking.open_steps(state)]
        decided = []
        for context in planning.step_contexts(plan, opened, state.verdicts):  # 2
            found = _decided(context, request, spent)
            if isinstance(found, Unknown):
                return Replayed(request, found)
            decided.append(thinking.verdict_of(found))
        verdicts = sorted((*state.verdicts, *decided), key=lambda each: each.step_index)
        move = thinking.next_move(replace(state, verdicts=tuple(verdicts)), strategy)  # 3
        if isinstance(move, ThoughtCarried):
            state = move
            continue
        answers = {each.step_index: each.answer for each in verdicts}
        answer = None if move.step is None else answers[move.step]
        ask = policy.asks[state.steps[move.step or 0].ask]
        return Replayed(
            request, None, answer, spent.num_samples, spent.tokens_out, _is_same(request.answer, answer, ask)
        )


@dataclass(slots=True)
class _Spent:
    """What was counted so far, and on which recorded steps."""

    num_samples: int = 0
    tokens_out: int = 0
    steps: set[int] = field(default_factory=set)


def _plan(request: RecordedRequest, policy: Policy) -> PlanMade:
    asked = ReasoningRequested(question=request.question, max_samples=request.max_samples, quality=request.quality)
    return planning.plan(asked, request.request_id, policy, request.asked_ms)


def _decided(context: StepContext, request: RecordedRequest, spent: _Spent) -> StepDecided | Unknown:
    """The verdict on a step, by the recorded samples of the same step."""
    if external.is_external(context.ask):
        return Unknown.EFFECT
    recorded = _recorded(context, request.steps, spent.steps)
    if isinstance(recorded, Unknown):
        return recorded
    ask = context.ask
    # What a judge said is kept with a vote, and not with its paths.
    ballots, is_known = counting.judged_ballots(
        [_within_bounds(each, ask) for each in recorded.ballots], ask, _unjudged
    )
    if not is_known:
        return Unknown.JUDGE
    stop = _end(ballots, ask)
    if stop is None:
        return Unknown.MORE_SAMPLES
    length, reason = stop
    counted = counting.count(ballots[:length], ask, reason=reason)
    spent.steps.add(recorded.step.index)
    spent.num_samples += length
    spent.tokens_out += sum(each.tokens_out for each in ballots[:length])
    return verdict_on(context, counted, reason, launched=length, decided_ms=request.asked_ms)


def _unjudged(one: str, other: str) -> bool | None:
    """Nobody is asked here whether two formulas are the same."""
    return None


def _recorded(context: StepContext, steps: Sequence[RecordedStep], used: set[int]) -> RecordedStep | Unknown:
    """The recorded step that asks the same in the same way; of several, that of the same place, else the first unused one."""
    alike = [each for each in steps if each.step.fields == context.step.fields and each.step.index not in used]
    found = [each for each in alike if _is_put_alike(each, context)]
    if not found:
        return Unknown.OTHER_PROMPT if alike else Unknown.OTHER_STEP
    return min(found, key=lambda each: (each.step.index != context.step_index, each.step.index))


def _is_put_alike(recorded: RecordedStep, context: StepContext) -> bool:
    """True where the recorded paths are what the step's would be. A budget may leave a turn less room, which none must need."""
    ask = context.ask
    if recorded.prompt_set != context.prompt_set or ask.max_tokens > recorded.ask.max_tokens:
        return False
    if any(getattr(recorded.ask, name) != getattr(ask, name) for name in _DECODED_BY):
        return False
    return ask.max_tokens == recorded.ask.max_tokens or all(
        each.tokens_out < ask.max_tokens for each in recorded.ballots
    )


def _end(ballots: Sequence[Ballot], ask: Ask) -> tuple[int, StopReason] | None:
    """How many samples end the vote, and why; None where it takes more than there are. Launched wave by wave."""
    launched = counting.launch((), 0, ask)
    while True:
        reported = ballots[:launched]
        stop = counting.stop(reported, ask)
        if stop is not None:
            return stop.length, stop.reason
        if launched > len(ballots):
            return None
        more = counting.launch(reported, launched, ask)
        if not more:
            is_out = counting.is_out_of_budget(reported, ask)
            return launched, StopReason.BUDGET if is_out else StopReason.EXHAUSTED
        launched += more


def _within_bounds(ballot: Ballot, ask: Ask) -> Ballot:
    """The ballot with its answer as long as a live vote of its ask has room for."""
    return replace(ballot, answer=bounds.cut_ballot(ballot.answer, ask)) if ballot.answer else ballot


def _is_same(served: str | None, answer: str | None, ask: Ask) -> bool:
    if served is None or answer is None:
        return served is answer
    return served == answer or same(served, answer, ask)
