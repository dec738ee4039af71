"""The laws of the aggregator over every strategy, whatever its steps come to: neither order, nor crashes, nor carries change
what comes out; every request ends once; every carry fits a record."""

import random
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from conclave.domain import bounds, planning
from conclave.domain.strategies import STRATEGIES
from conclave.domain.thought import Grow, Thought
from conclave.runtime.limits import MAX_OUTPUT_BYTES
from conclave.testing import events as made
from conclave.testing.lane import Scene, SimulatedLane
from conclave.testing.strategies import TEXTS, check, check_foreign
from schemas import codec, flow
from schemas.codec import encode
from schemas.events import (
    AnswerReached,
    Event,
    RequestCancelled,
    RequestFailed,
    SampleRequested,
    StepClosed,
    StepDecided,
)
from schemas.values import MAX_STEPS, Ask, Budget, Policy, RequestFailure
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings

AGGREGATOR = Aggregator(AggregatorSettings(aggregator_grace_s=5.0, aggregator_orphan_s=7200.0))
AFTER_GRACE_MS = made.DEADLINE_MS + 5_000
AT_THE_END_MS = AFTER_GRACE_MS + 7_200_000

MOVES = ["report", "report", "read", "read", "flush", "crash", "carry", "tick"]
faulty_moves = st.lists(st.tuples(st.sampled_from([*MOVES, "fault"]), st.integers(0, 31)), max_size=60)
moves = st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 31)), max_size=60)

outcomes = st.tuples(st.sampled_from(TEXTS) | st.none(), st.sampled_from([0.0, 0.4, 0.9, 1.0]))
comings = st.lists(outcomes, min_size=8, max_size=8)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """A policy for any strategy, with any budget and parameters within and beyond their ranges."""
    name = draw(st.sampled_from(sorted(STRATEGIES)))
    strategy = STRATEGIES[name]
    params = {each: draw(st.sampled_from([0.0, 0.5, 2.0, 5.0, 1e9])) for each in strategy.params}
    opening = strategy.think(Thought("all of it?", params, (), {}, must_end=False))
    assert isinstance(opening, Grow)
    max_steps = max(draw(st.integers(1, 8) | st.just(MAX_STEPS)), len(opening.steps))
    return Policy(
        name="drawn",
        prompt_set="any",
        strategy=name,
        params=params,
        asks={each: Ask(form=each, stopping="fixed", max_samples=draw(st.integers(1, 3))) for each in strategy.asks},
        budget=Budget(max_steps=max_steps, max_tokens=draw(st.none() | st.just(60))),
    )


@dataclass
class Voters:
    """Those who owe a verdict on each step that was launched."""

    comings: list[tuple[str | None, float]]
    owed: list[int] = field(default_factory=list)
    launched: list[tuple[int, int]] = field(default_factory=list)

    def hear(self, output: Event) -> None:
        if isinstance(output, SampleRequested):
            self.launched.append((output.context.step_index, output.sample_index))
            if output.sample_index == 0:
                self.owed.append(output.context.step_index)

    def verdict(self, step_index: int) -> StepDecided:
        answer, confidence = self.comings[step_index % len(self.comings)]
        return made.verdict(step_index, answer or None, confidence=confidence if answer else 0.0)

    def report(self, lane: SimulatedLane, choice: int) -> None:
        if self.owed:
            lane.log.append(self.verdict(self.owed.pop(choice % len(self.owed))))


def _at_no_time(output: Event) -> Event:
    return replace(output, elapsed_ms=0.0) if isinstance(output, AnswerReached | RequestFailed) else output


class AggregatorScene(Scene[Voters]):
    """A lane, and the voters that answer it."""

    @property
    def effects(self) -> list[bytes]:
        """All that was published, but for how long it took: a lane that was carried comes to the same end later."""
        return sorted(encode(_at_no_time(output)) for output in self.lane.outputs)

    @property
    def ends(self) -> list[Event]:
        return [output for output in self.lane.outputs if isinstance(output, AnswerReached | RequestFailed)]

    def check(self) -> None:
        """What holds of any scene that is over."""
        assert len(self.ends) == 1
        assert self.lane.is_settled
        assert self.lane.rejections == []
        assert len(set(self.others.launched)) == len(self.others.launched), "no sample is launched twice"
        for event in (*self.lane.log, *self.lane.outputs):
            value = encode(event)
            assert len(value) < MAX_OUTPUT_BYTES
            assert codec.decode(flow.topic_of(type(event)), codec.versioned_type(type(event)), value) == event


def scene(policy: Policy, comings: list[tuple[str | None, float]]) -> AggregatorScene:
    """A request as its decomposer leaves it: planned, and the first steps launched."""
    voters, plan = Voters(comings), made.opened(policy)
    for step in plan.steps:
        for sample in planning.first_wave(planning.step_context(plan, step)):
            voters.hear(sample)
    return AggregatorScene(SimulatedLane(AGGREGATOR, voters.hear, made.NOW_MS, log=[plan]), voters)


@given(policies(), comings, moves)
@settings(max_examples=200, deadline=None)
def test_order_crashes_and_carries_change_no_effect(
    policy: Policy, comings: list[tuple[str | None, float]], moves: list[tuple[str, int]]
) -> None:
    calm, wild = scene(policy, comings), scene(policy, comings)
    calm.finish()
    wild.play(moves)
    wild.finish()
    assert wild.effects == calm.effects
    assert not any(isinstance(output, StepClosed) for output in wild.lane.outputs)
    wild.check()


@given(policies(), comings, moves, moves)
@settings(max_examples=150, deadline=None)
def test_every_request_ends_once_whenever_its_deadline_comes(
    policy: Policy,
    comings: list[tuple[str | None, float]],
    before: list[tuple[str, int]],
    after: list[tuple[str, int]],
) -> None:
    late = scene(policy, comings)
    late.play(before)
    late.lane.now_ms = AFTER_GRACE_MS
    late.lane.tick()
    late.play(after)
    late.finish()
    late.check()


@given(policies(), comings, moves, moves)
@settings(max_examples=100, deadline=None)
def test_whenever_a_request_is_cancelled_it_has_one_end_and_nothing_is_launched_twice(
    policy: Policy,
    comings: list[tuple[str | None, float]],
    before: list[tuple[str, int]],
    after: list[tuple[str, int]],
) -> None:
    cancelled = scene(policy, comings)
    cancelled.play(before)
    request_id = made.opened(policy).request_id
    cancelled.lane.log.append(RequestCancelled(request_id=request_id, until_ms=AT_THE_END_MS))
    cancelled.play(after)
    cancelled.finish()
    cancelled.lane.now_ms = AT_THE_END_MS
    cancelled.lane.tick()
    cancelled.lane.drain()
    cancelled.check()
    (end,) = cancelled.ends
    if isinstance(end, RequestFailed):
        assert end.failure in (RequestFailure.CANCELLED, RequestFailure.NO_ANSWER)


@given(policies(), comings, faulty_moves)
@settings(max_examples=200, deadline=None)
def test_whatever_fails_at_any_moment_a_request_has_one_end_and_no_step_is_launched_twice(
    policy: Policy, comings: list[tuple[str | None, float]], moves: list[tuple[str, int]]
) -> None:
    hurt = scene(policy, comings)
    hurt.play(moves)
    hurt.finish()
    hurt.check()


@given(policies(), comings, moves)
@settings(max_examples=100, deadline=None)
def test_groups_end_even_when_verdicts_never_come(
    policy: Policy, comings: list[tuple[str | None, float]], moves: list[tuple[str, int]]
) -> None:
    lost = scene(policy, comings)
    lost.play(moves)
    lost.others.owed.clear()
    lost.lane.drain()
    for now_ms in (AFTER_GRACE_MS, AT_THE_END_MS):
        lost.lane.now_ms = now_ms
        lost.lane.tick()
        lost.lane.drain()
    lost.check()


@given(st.sampled_from(sorted(STRATEGIES)), st.randoms(use_true_random=False))
@settings(max_examples=400, deadline=None)
def test_every_strategy_keeps_its_law(name: str, rng: random.Random) -> None:
    check(STRATEGIES[name], rng)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_no_strategy_trips_over_steps_that_it_has_not_grown(name: str) -> None:
    for seed in range(100):
        check_foreign(STRATEGIES[name], random.Random(f"{name} {seed}"))


@pytest.mark.parametrize("text", ["a" * 4096, "é" * 4096, "漢" * 4096, "\u0001" * 4096, "😀" * 4096])
def test_a_thought_of_64_steps_with_the_longest_answers_is_carried_anywhere_and_ends(text: str) -> None:
    answer = text[:-2] + "{:02}"
    plan = made.plan(MAX_STEPS)
    events: list[Event] = [plan, *(made.verdict(n, answer.format(n), num_votes=16) for n in range(MAX_STEPS))]
    for cut in (1, 21, 42, MAX_STEPS):
        assert len(encode(AGGREGATOR.carry(events[: cut + 1]))) <= bounds.MAX_THOUGHT_BYTES
    whole = SimulatedLane(AGGREGATOR, lambda _: None, made.NOW_MS, log=events)
    whole.drain()
    (end,) = whole.outputs
    assert isinstance(end, AnswerReached)
    assert len(encode(end)) < MAX_OUTPUT_BYTES
    assert (end.answer == answer.format(0)) is (bounds.size(answer.format(0)) <= bounds.MAX_ANSWER_BYTES)


@pytest.mark.parametrize("character", ["a", "漢", "\u0001"])
def test_a_strategy_that_would_grow_beyond_a_record_must_end_and_says_its_best(
    character: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STRATEGIES, "vote", made.endless(character * 4096))
    greedy = scene(made.policy_of("vote", budget=Budget(max_steps=MAX_STEPS)), [(character * 4096, 0.5)])
    greedy.finish()
    greedy.check()
    (end,) = greedy.ends
    assert isinstance(end, AnswerReached)
    assert 16 <= len(end.steps) <= MAX_STEPS
