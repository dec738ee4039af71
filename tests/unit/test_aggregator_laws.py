"""The laws of joining, for the aggregator: neither order, nor crashes, nor carries change what comes out."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from conclave.domain import planning
from conclave.testing import events as made
from conclave.testing.lane import SimulatedLane, run
from schemas.codec import encode
from schemas.events import AnswerReached, Event, PlanMade, RequestFailed, SampleRequested, StepClosed
from services.aggregator.handler import Aggregator
from services.aggregator.settings import AggregatorSettings

AGGREGATOR = Aggregator(AggregatorSettings(aggregator_grace_s=5.0, aggregator_orphan_s=7200.0))
AFTER_GRACE_MS = made.DEADLINE_MS + 5_000
AT_THE_END_MS = AFTER_GRACE_MS + 7_200_000

MOVES = ["report", "report", "read", "read", "flush", "crash", "carry", "tick"]
moves = st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 31)), max_size=60)
answers = st.lists(st.sampled_from(["3", "4", "5"]), min_size=6, max_size=6)
answers_or_none = st.lists(st.sampled_from(["3", "4", None]), min_size=6, max_size=6)


@st.composite
def plans(draw: st.DrawFn) -> PlanMade:
    """Any directed acyclic graph of up to six steps."""
    num_steps = draw(st.integers(1, 6))
    subsets = [draw(st.sets(st.integers(0, index - 1))) if index else set() for index in range(num_steps)]
    return made.plan(*(tuple(sorted(subset)) for subset in subsets))


@dataclass
class Voters:
    """Those who owe a verdict on each step that was launched."""

    answers: list[str | None]
    owed: list[int] = field(default_factory=list)
    launched: list[tuple[int, int]] = field(default_factory=list)

    def hear(self, output: Event) -> None:
        if isinstance(output, SampleRequested):
            self.launched.append((output.context.step_index, output.sample_index))
            if output.sample_index == 0:
                self.owed.append(output.context.step_index)

    def report(self, lane: SimulatedLane, choice: int) -> None:
        if self.owed:
            step_index = self.owed.pop(choice % len(self.owed))
            lane.log.append(made.verdict(step_index, self.answers[step_index]))


@dataclass
class Scene:
    """A lane, and the voters that answer it."""

    lane: SimulatedLane
    voters: Voters

    def play(self, moves: list[tuple[str, int]]) -> None:
        run(self.lane, moves, lambda choice: self.voters.report(self.lane, choice))

    def finish(self) -> None:
        while self.voters.owed or not self.lane.is_idle:
            self.play([("report", 0), ("read", 0), ("flush", 0)])

    @property
    def effects(self) -> list[bytes]:
        return sorted(encode(output) for output in self.lane.outputs)

    @property
    def ends(self) -> list[Event]:
        return [output for output in self.lane.outputs if isinstance(output, AnswerReached | RequestFailed)]

    def check_launches(self) -> None:
        assert len(set(self.voters.launched)) == len(self.voters.launched), "no sample is launched twice"


def scene(plan: PlanMade, answers: list[str | None]) -> Scene:
    """A request as its decomposer leaves it: planned, and the first steps launched."""
    voters = Voters(answers)
    for index in planning.first_steps(plan):
        for sample in planning.first_wave(planning.step_context(plan, index, {})):
            voters.hear(sample)
    return Scene(SimulatedLane(AGGREGATOR, voters.hear, made.NOW_MS, log=[plan]), voters)


@given(plans(), answers, moves)
@settings(max_examples=400, deadline=None)
def test_order_crashes_and_carries_change_no_effect(
    plan: PlanMade, answers: list[str | None], moves: list[tuple[str, int]]
) -> None:
    calm, wild = scene(plan, answers), scene(plan, answers)
    calm.finish()
    wild.play(moves)
    wild.finish()
    assert {index for index, _ in wild.voters.launched} == {step.index for step in plan.steps}
    assert [type(end) for end in wild.ends] == [AnswerReached]
    assert not any(isinstance(output, StepClosed) for output in wild.lane.outputs)
    assert wild.effects == calm.effects
    assert wild.lane.is_settled
    assert wild.lane.rejections == []


@given(plans(), answers_or_none, moves, moves)
@settings(max_examples=300, deadline=None)
def test_every_request_ends_once_with_or_without_answers_and_whenever_its_deadline_comes(
    plan: PlanMade, answers: list[str | None], before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    late = scene(plan, answers)
    late.play(before)
    late.lane.now_ms = AFTER_GRACE_MS
    late.lane.tick()
    late.play(after)
    late.finish()
    assert len(late.ends) == 1
    assert late.lane.is_settled
    assert late.lane.rejections == []
    late.check_launches()


@given(plans(), answers_or_none, moves)
@settings(max_examples=200, deadline=None)
def test_groups_end_even_when_verdicts_never_come(
    plan: PlanMade, answers: list[str | None], moves: list[tuple[str, int]]
) -> None:
    lost = scene(plan, answers)
    lost.play(moves)
    lost.voters.owed.clear()
    lost.lane.drain()
    for now_ms in (AFTER_GRACE_MS, AT_THE_END_MS):
        lost.lane.now_ms = now_ms
        lost.lane.tick()
        lost.lane.drain()
    assert lost.lane.is_settled
    assert len(lost.ends) == 1
    lost.check_launches()
