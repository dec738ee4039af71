"""Events that are well formed and make no sense: a joiner decides, waits or rejects, and what it says can be read back."""

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from conclave.domain import thinking
from conclave.domain.confidence import CONFIDENCES
from conclave.domain.joining import Decision, Wait
from conclave.domain.schedules import SCHEDULES
from conclave.domain.stopping import STOPPING_RULES
from conclave.domain.strategies import STRATEGIES
from conclave.domain.weighing import WEIGHINGS
from conclave.errors import Rejected, Unbegun
from conclave.runtime.dead_letters import cause_of
from conclave.runtime.handler import Joiner
from conclave.runtime.limits import MAX_OUTPUT_BYTES
from conclave.testing import events as made
from schemas import codec, flow
from schemas.events import Event, PlanMade, StepDecided, TallyCarried, ThoughtCarried
from schemas.values import (
    MAX_SAMPLES,
    Ask,
    Ballot,
    Budget,
    Outcome,
    PathFailure,
    Step,
    StepContext,
    StopReason,
)
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.voter.joiner import Voter
from services.voter.settings import VoterSettings

VOTER = Voter(VoterSettings())
AGGREGATOR = Aggregator(AggregatorSettings())

times = st.sampled_from([0, 1, made.NOW_MS - 1, made.DEADLINE_MS, made.DEADLINE_MS + 10**8, 2**48 - 1])
texts = st.sampled_from(
    ["4", "", " ", "$", "\\boxed{", "%", "ß" * 4096, "9" * 4096, "1/0", "\ud7ff\U0010ffff"]
) | st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
numbers = st.sampled_from([0.0, 0.5, 1.0, 5.0, -1.0, 1e308])
params = st.dictionaries(
    st.sampled_from(["window", "lead", "stop_confidence", "floor", "rounds", "max_parts"]), numbers
)
asks = st.builds(
    Ask,
    form=st.just("any"),
    stopping=st.sampled_from([*STOPPING_RULES, "of-tomorrow"]),
    schedule=st.sampled_from([*SCHEDULES, "of-tomorrow"]),
    answer_schema=st.sampled_from(["", "", "{", "[]", '{"type":"object","properties":{"a":{"type":"string"}}}']),
    weighing=st.sampled_from([*WEIGHINGS, "of-tomorrow"]),
    confidence=st.sampled_from([*CONFIDENCES, "of-tomorrow"]),
    calibration=st.sampled_from([(), (0.0, 1.0), (1.0, 0.0, 0.5)]),
    params=params,
    max_samples=st.sampled_from([1, 4, MAX_SAMPLES]),
)
contexts = st.builds(made.context, asks, deadline_ms=times)
ballots = st.builds(
    Ballot,
    sample_index=st.integers(0, 5),
    answer=st.none() | texts,
    weight=st.sampled_from([0.0, 1e-300, 1.0, 1e308]),
    probability=st.none() | st.sampled_from([0.0, 1.0]),
    mean_logprob=st.none() | st.sampled_from([0.0, -1e308]),
    failure=st.none() | st.sampled_from(PathFailure),
    tokens_in=st.sampled_from([0, 2**53]),
)
ballot_lists = st.lists(ballots, max_size=6, unique_by=lambda ballot: ballot.sample_index).map(tuple)


@st.composite
def votes(draw: st.DrawFn, contexts: Sequence[StepContext]) -> Event:
    context, index = draw(st.sampled_from(contexts)), draw(st.integers(0, 5))
    launched = draw(st.integers(index + 1, 8) | st.just(MAX_SAMPLES))
    match draw(st.integers(0, 2)):
        case 0:
            return made.decoded(context, index, launched, draw(st.none() | texts))
        case 1:
            return made.failed(context, index, launched, draw(st.sampled_from(PathFailure)))
        case _:
            carried, is_decided = draw(ballot_lists), draw(st.booleans())
            return TallyCarried(context=context, launched=max(6, launched), ballots=carried, is_decided=is_decided)


verdicts = st.builds(
    made.verdict,
    st.sampled_from([0, 1, 2, 63]),
    st.none() | texts,
    num_votes=st.integers(1, 3),
    outcome=st.sampled_from(Outcome),
    stop_reason=st.sampled_from([*StopReason, "recalled"]),
    confidence=st.sampled_from([0.0, 1.0]),
    ballots=ballot_lists,
    decided_ms=times,
)
policies = st.builds(
    lambda name, params, asks, budget: made.policy_of(
        name, params=params, asks=dict.fromkeys(STRATEGIES[name].asks, asks), budget=budget
    ),
    st.sampled_from(sorted(STRATEGIES)),
    params,
    asks,
    st.builds(Budget, max_steps=st.sampled_from([1, 3, 64]), max_tokens=st.sampled_from([None, 0, 2**53])),
)
plans = st.builds(
    lambda num_steps, policy, deadline_ms, max_samples: replace(
        made.plan(num_steps, policy), deadline_ms=deadline_ms, max_samples=max_samples
    ),
    st.sampled_from([1, 2, 4]),
    policies | st.just(replace(made.policy(), strategy="of-tomorrow")),
    times,
    st.sampled_from([None, 1, MAX_SAMPLES]),
)
carried = st.builds(thinking.verdict_of, verdicts)


@st.composite
def parts(draw: st.DrawFn, plans: Sequence[PlanMade]) -> Event:
    plan = draw(st.sampled_from(plans))
    match draw(st.integers(0, 2)):
        case 0:
            return plan
        case 1:
            return draw(verdicts)
        case _:
            first = len(plan.steps)
            grown = [
                Step(index=first + place, ask=draw(st.sampled_from([*plan.policy.asks, "whole"])), mark=mark, fields={})
                for place, mark in enumerate(draw(st.lists(st.sampled_from(["", "#1", "#x", "whole"]), max_size=3)))
            ]
            known = [each for each in draw(st.lists(carried, max_size=3)) if each.step_index < first + len(grown)]
            return ThoughtCarried(plan=plan, grown=tuple(grown), verdicts=tuple(known), is_closed=draw(st.booleans()))


def check(joiner: Joiner, events: list[Event], now_ms: int) -> None:
    """Whatever the joiner does with `events`, it does by its rules, and says it in events that can be read."""
    for event in events:
        assert _read_back(event) == event, "what the test draws must be able to come from Kafka"
    said: list[Event | None] = []
    rejected: list[Rejected] = []
    try:
        outcome = joiner.join(events, now_ms)
        if isinstance(outcome, Decision):
            said = [*outcome.outputs, outcome.carry]
        else:
            assert isinstance(outcome, Wait)
            assert outcome.until_ms is not None
            assert outcome.until_ms > now_ms, "a group that waits for a time gone by never ends"
        said.append(joiner.carry(events))
    except Rejected as error:
        rejected.append(error)
        ended = joiner.give_up(events, cause_of(error), now_ms)
        said = [*ended.outputs, ended.carry]
        if ended.carry is not None:
            with contextlib.suppress(Unbegun):
                joiner.join([ended.carry], now_ms)  # what is left of a group that was given up is not at fault again
            again = joiner.give_up([*events, ended.carry], cause_of(error), now_ms)
            assert again.outputs == (), "a group that was given up has had its end"
    assert all(error.field.startswith("$.") for error in rejected)
    for output in said:
        assert output is None or _read_back(output) == output


def _read_back(event: Event) -> Event:
    return codec.decode(flow.topic_of(type(event)), codec.versioned_type(type(event)), codec.encode(event))


@given(st.lists(contexts, min_size=1, max_size=2), st.data(), times)
@settings(max_examples=300, deadline=None)
def test_the_voter_survives_any_paths_and_carries(
    contexts: list[StepContext], data: st.DataObject, now_ms: int
) -> None:
    check(VOTER, data.draw(st.lists(votes(contexts), min_size=1, max_size=6)), now_ms)


@given(st.lists(plans, min_size=1, max_size=2), st.data(), times)
@settings(max_examples=300, deadline=None)
def test_the_aggregator_survives_any_plans_verdicts_and_carries(
    plans: list[PlanMade], data: st.DataObject, now_ms: int
) -> None:
    check(AGGREGATOR, data.draw(st.lists(parts(plans), min_size=1, max_size=6)), now_ms)


@pytest.mark.parametrize("num_steps", [1, 32])
def test_a_vote_of_the_greatest_size_is_joined(num_steps: int) -> None:
    context = made.context(made.ask(params={"stop_confidence": 1.0}, max_samples=256))
    long = "a" * 4094
    events: list[Event] = [made.decoded(context, index, 256, f"{long}{index % num_steps:02}") for index in range(256)]
    outcome = VOTER.join(events, made.NOW_MS)
    assert isinstance(outcome, Decision)
    assert isinstance(outcome.outputs[0], StepDecided)
    assert len(codec.encode(outcome.outputs[0])) < MAX_OUTPUT_BYTES
