"""What the benchmark of the strategies makes of answers."""

from xml.etree import ElementTree

import pytest

from benchmarks.scatter import Point, as_svg, as_text
from benchmarks.strategies import figures, measured_policies, table
from conclave.domain.strategies import STRATEGIES
from training.generator import held_out
from training.reasoning import Answered


def test_figures_are_shares_and_means_by_difficulty() -> None:
    problems = held_out(20)
    found = [Answered(str(each.answer) if each.num_steps < 5 else None, 10, 100, 2, 1) for each in problems]
    row = figures(found, problems, price_in=1.0, price_out=10.0)
    assert row["right_1-2_steps_pct"] == row["right_3-4_steps_pct"] == 100.0
    assert row["right_5-8_steps_pct"] == 0.0
    assert 0 < row["right_pct"] < 100
    assert (row["paths"], row["tokens_out"], row["dollars_per_1000"]) == (2.0, 10.0, 0.2)
    assert "right_pct" in table({"some": row})


def test_every_strategy_that_the_shipped_model_has_a_policy_for_is_measured() -> None:
    measured = {policy.strategy for policy in measured_policies(())}
    assert measured >= set(STRATEGIES) & {
        "vote",
        "escalate",
        "least_to_most",
        "self_ask",
        "tree",
        "tree_sampled",
        "contemplation",
    }
    assert [policy.name for policy in measured_policies(["tree"])] == ["tree"]


@pytest.mark.parametrize(
    "points", [[], [Point("one", 5.0, 50.0)], [Point("a<b", 30.0, 71.5), Point("tree", 900.0, 93.0)]]
)
def test_a_plot_is_well_formed_whatever_its_points(points: list[Point]) -> None:
    svg = ElementTree.fromstring(as_svg(points, "x", "y"))
    assert len(svg.findall("{http://www.w3.org/2000/svg}circle")) == len(points)
    assert all(point.name in as_text(points, "x", "y") for point in points)
