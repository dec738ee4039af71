"""The laws of joining, for the voter: neither order, nor crashes, nor carries change what comes out."""

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from conclave.domain import planning
from conclave.domain.confidence import CONFIDENCES
from conclave.domain.equivalence import EQUIVALENCES
from conclave.domain.schedules import SCHEDULES
from conclave.domain.stopping import STOPPING_RULES
from conclave.domain.voting import VOTING_RULES
from conclave.domain.weighing import WEIGHINGS
from conclave.errors import Unbegun
from conclave.testing import events as made
from conclave.testing.lane import Scene, SimulatedLane
from schemas.codec import encode
from schemas.events import Event, SampleRequested, StepClosed, StepDecided
from schemas.values import Ask, PathFailure, StepContext
from services.voter.joiner import Voter
from services.voter.settings import VoterSettings

VOTER = Voter(VoterSettings(voter_grace_s=2.0, voter_orphan_s=3600.0))
AFTER_GRACE_MS = made.DEADLINE_MS + 2_000
AT_THE_END_MS = made.DEADLINE_MS + 3_600_000

MOVES = ["report", "report", "read", "read", "flush", "crash", "carry", "tick"]
moves = st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 31)), max_size=60)
faulty_moves = st.lists(st.tuples(st.sampled_from([*MOVES, "fault"]), st.integers(0, 31)), max_size=60)
asks = st.builds(
    Ask,
    form=st.just("chain_of_thought"),
    stopping=st.sampled_from(sorted(STOPPING_RULES)),
    voting=st.sampled_from(sorted(VOTING_RULES)),
    equivalence=st.sampled_from(sorted(EQUIVALENCES)),
    weighing=st.sampled_from(sorted(WEIGHINGS)),
    confidence=st.sampled_from(sorted(CONFIDENCES)),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    params=st.fixed_dictionaries(
        {
            "window": st.integers(1, 4).map(float),
            "lead": st.integers(1, 3).map(float),
            "in_flight": st.integers(1, 12).map(float),
            "lookahead": st.sampled_from([1.0, 1.5, 4.0]),
        }
    ),
    max_samples=st.integers(1, 12),
)
# Those by which the same is launched whatever arrives first.
patient_asks = asks.filter(lambda ask: ask.schedule in ("waves", "at_once"))
# What each sample comes to; the engine's failures among the answers.
endings = st.lists(st.sampled_from(["4", "4", "4.0", "5", "6", "", None, PathFailure.ENGINE]), min_size=12, max_size=12)


@dataclass
class Decoders:
    """Those who owe a terminal event for each sample that was launched."""

    endings: list[str | PathFailure | None]
    owed: list[SampleRequested] = field(default_factory=list)
    launched: list[SampleRequested] = field(default_factory=list)

    def hear(self, output: Event) -> None:
        if isinstance(output, SampleRequested):
            self.owed.append(output)
            self.launched.append(output)

    def report(self, lane: SimulatedLane, choice: int) -> None:
        if self.owed:
            sample = self.owed.pop(choice % len(self.owed))
            ending = self.endings[sample.sample_index]
            of = (sample.context, sample.sample_index, sample.launched)
            lane.log.append(made.failed(*of, ending) if isinstance(ending, PathFailure) else made.decoded(*of, ending))


def _at_no_time(output: Event) -> Event:
    return replace(output, decided_ms=0) if isinstance(output, StepDecided) else output


class VoterScene(Scene[Decoders]):
    """A lane, and the decoders that answer it."""

    @property
    def verdicts(self) -> list[StepDecided]:
        return [output for output in self.lane.outputs if isinstance(output, StepDecided)]

    @property
    def effects(self) -> list[bytes]:
        """All outputs but StepClosed, which is only sent when there is something left to cancel; and not when it was decided:
        a lane that was opened again, or carried, comes to the same verdict later."""
        return sorted(encode(_at_no_time(output)) for output in self.lane.outputs if not isinstance(output, StepClosed))

    def check_launches(self) -> None:
        indexes = [sample.sample_index for sample in self.others.launched]
        assert sorted(indexes) == list(range(len(indexes))), "each sample is launched once, without a gap"


def scene(ask: Ask, endings: list[str | PathFailure | None], num_first: int | None = None) -> VoterScene:
    """A step whose first wave (the deficit, or `num_first` samples) has just been launched."""
    context: StepContext = made.context(ask)
    decoders = Decoders(endings)
    for sample in planning.wave(context, 0, num_first or len(planning.first_wave(context))):
        decoders.hear(sample)
    return VoterScene(SimulatedLane(VOTER, decoders.hear, made.NOW_MS), decoders)


@given(patient_asks, endings, st.booleans(), moves)
@settings(max_examples=400, deadline=None)
def test_order_crashes_and_carries_change_no_effect(
    ask: Ask, endings: list[str | PathFailure | None], is_all_at_once: bool, moves: list[tuple[str, int]]
) -> None:
    num_first = ask.max_samples if is_all_at_once else None
    calm, wild = scene(ask, endings, num_first), scene(ask, endings, num_first)
    calm.finish()
    wild.play(moves)
    wild.finish()
    assert wild.effects == calm.effects
    assert len(wild.verdicts) == 1
    assert sum(isinstance(output, StepClosed) for output in wild.lane.outputs) <= 1
    assert wild.lane.is_settled
    assert wild.lane.rejections == []
    wild.check_launches()


@given(asks, endings, moves)
@settings(max_examples=300, deadline=None)
def test_the_verdict_is_the_same_whatever_the_schedule_and_the_order_of_arrival(
    ask: Ask, endings: list[str | PathFailure | None], moves: list[tuple[str, int]]
) -> None:
    calm, wild = scene(replace(ask, schedule="waves"), endings), scene(ask, endings)
    calm.finish()
    wild.play(moves)
    wild.finish()
    assert [replace(each, launched=0) for each in wild.verdicts] == [
        replace(each, launched=0) for each in calm.verdicts
    ]
    assert wild.verdicts[0].launched <= ask.max_samples
    assert wild.lane.is_settled
    wild.check_launches()


@given(asks, endings, moves, moves)
@settings(max_examples=300, deadline=None)
def test_a_deadline_at_any_moment_gives_one_verdict_and_every_group_ends(
    ask: Ask, endings: list[str | PathFailure | None], before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    late = scene(ask, endings)
    late.play(before)
    late.lane.now_ms = AFTER_GRACE_MS
    late.lane.tick()
    late.play(after)
    late.finish()
    assert len(late.verdicts) == 1
    assert late.lane.is_settled
    assert all(isinstance(error, Unbegun) for error in late.lane.rejections), "only a lost beginning is rejected"
    late.check_launches()


@given(asks, endings, moves)
@settings(max_examples=200, deadline=None)
def test_groups_end_even_when_samples_never_report(
    ask: Ask, endings: list[str | PathFailure | None], moves: list[tuple[str, int]]
) -> None:
    lost = scene(ask, endings)
    lost.play(moves)
    lost.others.owed.clear()
    lost.finish()
    lost.lane.now_ms = AFTER_GRACE_MS
    for _ in range(2):
        lost.lane.tick()
        lost.lane.drain()
    assert len(lost.verdicts) == int(bool(lost.lane.log)), (
        "a step of which anything was heard is decided after its deadline"
    )
    for now_ms in (AFTER_GRACE_MS, AT_THE_END_MS):
        lost.lane.now_ms = now_ms
        lost.lane.tick()
        lost.lane.drain()
    assert lost.lane.is_settled
    assert len(lost.verdicts) == int(bool(lost.lane.log))


@given(asks, endings, faulty_moves)
@settings(max_examples=400, deadline=None)
def test_whatever_fails_at_any_moment_a_step_has_one_verdict_and_no_sample_is_launched_twice(
    ask: Ask, endings: list[str | PathFailure | None], moves: list[tuple[str, int]]
) -> None:
    hurt = scene(ask, endings)
    hurt.play(moves)
    hurt.finish()
    assert len(hurt.verdicts) == 1
    assert hurt.lane.is_settled
    hurt.check_launches()


@given(endings, st.permutations(range(12)), st.lists(st.integers(0, 11), max_size=6))
def test_a_carry_of_carries_holds_what_one_carry_of_all_would(
    endings: list[str | PathFailure | None], order: list[int], cuts: list[int]
) -> None:
    whole = scene(made.ask(stopping="fixed", max_samples=12), endings)
    for _ in range(12):
        whole.others.report(whole.lane, 0)
    events = [whole.lane.log[index] for index in order]
    bounds = [0, *sorted(cuts), 12]
    parts = [VOTER.carry(events[low:high]) for low, high in pairwise(bounds) if low < high]
    assert VOTER.carry(parts[::-1]) == VOTER.carry(events)
