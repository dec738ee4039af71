"""What is told of an experiment: intervals around what was seen, and an alarm where traffic was not dealt as drawn."""

import math

import pytest
from msgspec.structs import replace

from conclave.domain.experiments.evidence import Cell, Evidence
from conclave.domain.experiments.reporting import report
from conclave.domain.experiments.reweighting import next_weights
from conclave.testing import events as made
from schemas.experiments import HOLDOUT, MetricCounts, Mode


def _cell(arm: str, num: int, total: float, *, version: int = 0, missing: int = 0, metric: str = "reward") -> Cell:
    counts = MetricCounts(num_units=num + missing, num_observed=num, num_missing=missing, sum_micro=round(total * 1e6))
    return Cell(metric, arm, version, 0, counts)


def _evidence(*cells: Cell) -> Evidence:
    answered = [replace_metric(cell) for cell in cells]
    return Evidence(tuple(sorted([*cells, *answered])), made.NOW_MS)


def replace_metric(cell: Cell) -> Cell:
    """The same units, all of them answered."""
    num = cell.counts.num_units
    return Cell("answered", cell.arm, cell.weights_version, cell.period, MetricCounts(num_units=num, num_observed=num))


def test_a_healthy_experiment_is_told_with_intervals_and_no_alarm() -> None:
    change = made.started(made.experiment(mode=Mode.REGRET, holdout=0.2))
    cells = [_cell("a", 100, 40.0, missing=20), _cell("b", 110, 70.0, missing=18), _cell(HOLDOUT, 50, 20.0, missing=12)]
    found = report(change, _evidence(*cells), [])
    a, b, held = found.arms
    assert (a.arm, b.arm, held.arm) == ("a", "b", HOLDOUT)
    assert (held.policy, held.share, b.share) == ("default", 0.2, 0.4)
    assert (a.mean, a.response_rate) == (0.4, 100 / 120)
    for arm in found.arms:
        assert arm.lower < arm.mean < arm.upper
        assert arm.snips is not None
        assert math.isclose(arm.snips.value, arm.mean)
        assert arm.aipw is not None
        assert abs(arm.aipw.value - arm.mean) < 0.05
    assert math.isclose(a.probability_best + b.probability_best, 1.0)
    assert [each.stage for each in found.mismatches] == ["assigned", "answered", "judged"]
    assert not any(each.is_alarm for each in found.mismatches)


def test_estimates_are_withheld_while_there_are_too_few() -> None:
    found = report(made.started(), _evidence(_cell("a", 10, 4.0), _cell("b", 40, 4.0)), [])
    assert (found.arms[0].snips, found.arms[0].aipw) == (None, None)
    assert found.arms[1].snips is not None
    assert report(made.started(), Evidence((), made.NOW_MS), []).winner is None


@pytest.mark.parametrize(
    ("a", "b", "alarms"),
    [
        ((900, 0), (500, 0), ["assigned", "answered", "judged"]),
        ((500, 500), (980, 20), ["judged"]),
    ],
)
def test_units_that_are_lost_on_the_way_raise_an_alarm_at_their_stage(
    a: tuple[int, int], b: tuple[int, int], alarms: list[str]
) -> None:
    cells = [_cell(arm, num, num / 2, missing=missing) for arm, (num, missing) in (("a", a), ("b", b))]
    found = report(made.started(), _evidence(*cells), [])
    assert [each.stage for each in found.mismatches if each.is_alarm] == alarms


def test_each_version_is_held_to_its_own_shares() -> None:
    change = made.started(made.experiment(mode=Mode.REGRET, max_change=1.0))
    first = [_cell("a", 100, 20.0), _cell("b", 100, 80.0)]
    weights = next_weights(change, _evidence(*first), None, {})
    assert weights is not None
    assert weights.allocation == {"a": 0.05, "b": 0.95}
    second = [_cell("a", 50, 10.0, version=1), _cell("b", 950, 700.0, version=1)]
    found = report(change, _evidence(*first, *second), [weights])
    assert (found.version, found.winner) == (1, "b")
    assert not any(each.is_alarm for each in found.mismatches)
    other = replace(weights, revision=2)
    assert all(each.is_alarm for each in report(change, _evidence(*first, *second), [other]).mismatches)
