"""Shares and draws: exact, sticky, and as likely as they say."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from conclave.domain.experiments.assignment import allocation_of, arm_at, draw, unit_of
from conclave.domain.experiments.shares import MILLION, as_shares, first_allocation, in_millionths
from conclave.testing import events as made
from schemas import codec
from schemas.events import ReasoningRequested, WeightsPublished
from schemas.experiments import HOLDOUT, Arm
from schemas.ids import derived_request_id
from tests.drawn import experiments

_weights = st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda each: sum(each) > 0)


def _normalised(weights: list[float]) -> dict[str, float]:
    return {f"arm-{place}": weight / sum(weights) for place, weight in enumerate(weights)}


@given(_weights)
def test_millionths_add_up_to_a_million_and_are_read_back_as_they_were_written(weights: list[float]) -> None:
    micro = in_millionths(_normalised(weights))
    assert sum(micro.values()) == MILLION
    assert all(abs(micro[name] / MILLION - share) < 2e-6 for name, share in _normalised(weights).items())
    assert in_millionths(as_shares(micro)) == micro


@given(_weights, st.integers(0, 2**53 - 1))
def test_a_draw_falls_on_an_arm_with_a_share(weights: list[float], drawn: int) -> None:
    allocation = as_shares(in_millionths(_normalised(weights)))
    found = arm_at(allocation, drawn)
    assert found.propensity == allocation[found.arm] > 0


@settings(max_examples=30)
@given(experiments)
def test_the_first_allocation_is_one_that_weights_may_publish(experiment) -> None:  # type: ignore[no-untyped-def]
    allocation = first_allocation(experiment)
    assert set(allocation) == set(experiment.arms) | ({HOLDOUT} if experiment.holdout else set())
    weights = WeightsPublished(experiment=experiment.name, version=1, allocation=allocation)
    event_type = codec.versioned_type(WeightsPublished)
    assert codec.decode("reasoning.weights", event_type, codec.encode(weights)) == weights


def test_draws_are_those_that_anyone_computes_from_the_hash() -> None:
    # printf 'trial\0trial\0ann' | sha256sum: the first 53 bits
    assert draw(made.experiment(), "ann") == 0xFF8FE42B37FA8556 >> 11
    assert draw(made.experiment(), "ann") == draw(made.experiment(floor=0.2), "ann")
    assert draw(made.experiment(salt="again"), "ann") != draw(made.experiment(), "ann")


def test_arms_get_the_share_of_units_that_they_are_given() -> None:
    experiment, allocation = made.experiment(), {"a": 0.3, "b": 0.2, HOLDOUT: 0.5}
    arms = [arm_at(allocation, draw(experiment, f"user {number}")).arm for number in range(20_000)]
    for arm, share in allocation.items():
        deviation = (share * (1 - share) / len(arms)) ** 0.5
        assert abs(arms.count(arm) / len(arms) - share) < 4 * deviation


def test_a_unit_moves_only_when_its_arm_shrinks() -> None:
    experiment = made.experiment()
    for number in range(500):
        drawn = draw(experiment, f"user {number}")
        before, after = arm_at({"a": 0.3, "b": 0.7}, drawn).arm, arm_at({"a": 0.5, "b": 0.5}, drawn).arm
        assert before == after or (before, after) == ("b", "a")


@pytest.mark.parametrize(
    ("changes", "tags", "unit"),
    [
        ({}, {}, made.REQUEST_ID),
        ({"unit": "user"}, {"user": "ann"}, "ann"),
        ({"unit": "user"}, {}, None),
        ({"unit": "user"}, {"user": ""}, None),
        ({"only_tags": {"task": "sums"}}, {"task": "sums"}, made.REQUEST_ID),
        ({"only_tags": {"task": "sums"}}, {"task": "else"}, None),
        ({"only_tags": {"task": "sums"}}, {}, None),
    ],
)
def test_who_takes_part_is_told_by_tags(changes: dict[str, object], tags: dict[str, str], unit: str | None) -> None:
    request = ReasoningRequested(question="2+2?", request_id=made.REQUEST_ID, tags=tags)
    assert unit_of(made.experiment(**changes), request, made.REQUEST_ID) == unit


def test_weights_of_another_run_are_none() -> None:
    experiment = made.experiment(arms={"a": Arm(policy="default", share=0.9), "b": Arm(policy="single", share=0.1)})
    weights = WeightsPublished(experiment="trial", version=7, revision=1, allocation={"a": 0.4, "b": 0.6})
    assert allocation_of(experiment, 1, weights) == (7, {"a": 0.4, "b": 0.6})
    assert allocation_of(experiment, 2, weights) == (0, {"a": 0.9, "b": 0.1})


@given(st.text(max_size=300), st.integers(0, 100))
def test_any_unit_can_be_drawn(unit: str, number: int) -> None:
    experiment = made.experiment(salt=str(derived_request_id(number, "salt")))
    assert 0 <= draw(experiment, unit) < 2**53


@pytest.mark.parametrize(
    "wrong",
    [
        {"control": "c"},
        {"arms": {"a": Arm(policy="p"), HOLDOUT: Arm(policy="p")}},
        {"floor": 0.6},
        {"arms": {"a": Arm(policy="p", share=0.5), "b": Arm(policy="p")}},
        {"arms": {"a": Arm(policy="p", share=0.99), "b": Arm(policy="p", share=0.01)}},
    ],
)
def test_an_experiment_that_can_not_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"at `\$\."):
        made.experiment(**wrong)


def test_only_a_promotion_names_an_arm() -> None:
    with pytest.raises(ValueError, match=r"\$\.arm"):
        made.started(arm="a")
    with pytest.raises(ValueError, match=r"\$\.definition"):
        made.started(experiment="other")
