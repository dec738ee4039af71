"""What SimulatedLane promises a joiner, the runtime keeps: the same moves on the real lane have the same effects."""

from collections.abc import Iterator
from contextlib import closing
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conclave.errors import Unbegun
from conclave.testing.real_lane import RealLane
from conclave.testing.simulation import quiet
from schemas.values import Ask, PathFailure, Policy
from tests.unit import test_aggregator_laws as aggregating
from tests.unit import test_voter_laws as voting

AnyScene = TypeVar("AnyScene", aggregating.AggregatorScene, voting.VoterScene)
PATIENT = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**16)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    with quiet():
        yield


def _on_the_real_lane(scene: AnyScene, service: str, seed: int) -> RealLane:
    model = scene.lane
    scene.lane = RealLane(model.joiner, model.on_output, model.now_ms, log=model.log, service=service, seed=seed)
    return scene.lane


def _finish(scene: AnyScene, lane: RealLane) -> None:
    """Plays to the end. What waits until all that was written before is read is looked at again later: the clock goes on."""
    for _ in range(15):
        scene.finish()
        lane.now_ms += 1_500
        lane.tick()
    scene.finish()


@given(voting.patient_asks, voting.endings, voting.moves, seeds)
@PATIENT
def test_a_vote_on_the_real_lane_has_the_effects_of_the_model(
    ask: Ask, endings: list[str | PathFailure | None], moves: list[tuple[str, int]], seed: int
) -> None:
    calm, wild = voting.scene(ask, endings), voting.scene(ask, endings)
    calm.finish()
    with closing(_on_the_real_lane(wild, "voter", seed)) as lane:
        wild.play(moves)
        _finish(wild, lane)
        assert wild.effects == calm.effects
        assert len(wild.verdicts) == 1
        assert lane.is_settled
        assert lane.rejections == []
        wild.check_launches()


@given(voting.asks, voting.endings, voting.moves, voting.moves, seeds)
@PATIENT
def test_a_deadline_at_any_moment_gives_one_verdict_on_the_real_lane(
    ask: Ask,
    endings: list[str | PathFailure | None],
    before: list[tuple[str, int]],
    after: list[tuple[str, int]],
    seed: int,
) -> None:
    late = voting.scene(ask, endings)
    with closing(_on_the_real_lane(late, "voter", seed)) as lane:
        late.play(before)
        lane.now_ms = voting.AFTER_GRACE_MS
        lane.tick()
        late.play(after)
        _finish(late, lane)
        assert len(late.verdicts) == 1
        assert lane.is_settled
        assert all(isinstance(error, Unbegun) for error in lane.rejections), "only a lost beginning is rejected"
        late.check_launches()


@given(aggregating.policies(), aggregating.comings, aggregating.moves, seeds)
@PATIENT
def test_a_thought_on_the_real_lane_has_the_effects_of_the_model(
    policy: Policy, comings: list[tuple[str | None, float]], moves: list[tuple[str, int]], seed: int
) -> None:
    calm, wild = aggregating.scene(policy, comings), aggregating.scene(policy, comings)
    calm.finish()
    with closing(_on_the_real_lane(wild, "aggregator", seed)) as lane:
        wild.play(moves)
        _finish(wild, lane)
        assert wild.effects == calm.effects
        wild.check()


@given(aggregating.policies(), aggregating.comings, aggregating.moves, aggregating.moves, seeds)
@PATIENT
def test_every_request_ends_once_on_the_real_lane_whenever_its_deadline_comes(
    policy: Policy,
    comings: list[tuple[str | None, float]],
    before: list[tuple[str, int]],
    after: list[tuple[str, int]],
    seed: int,
) -> None:
    late = aggregating.scene(policy, comings)
    with closing(_on_the_real_lane(late, "aggregator", seed)) as lane:
        late.play(before)
        lane.now_ms = aggregating.AFTER_GRACE_MS
        lane.tick()
        late.play(after)
        _finish(late, lane)
        late.check()
