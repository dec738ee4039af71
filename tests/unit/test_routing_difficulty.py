"""The classifier of difficulty: what it learns, from what, and the threshold that load and budget move."""

import random

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from conclave.domain.routing import Meter, Pressure, Rule
from conclave.domain.routing.difficulty import Classifier, difficulty
from conclave.domain.routing.examples import Example, Observation, examples
from conclave.domain.routing.features import Seen
from conclave.domain.routing.learning import MIN_EXAMPLES, TooFew, area_under_curve, learned
from conclave.domain.routing.rules import Limits
from conclave.testing import events as made
from tests.routed_questions import routed, trained


def test_a_classifier_learns_what_makes_questions_hard_and_says_how_well() -> None:
    classifier = trained()
    assert classifier.figures.auc > 0.95
    assert classifier.figures.log_loss < classifier.figures.log_loss_of_share
    assert difficulty(classifier, Seen("Ann has 3 nuts. " * 8 + "How many?")) > 0.9
    assert difficulty(classifier, Seen("Ann has 3 nuts. How many?")) < 0.1
    assert msgspec.json.decode(msgspec.json.encode(classifier), type=Classifier) == classifier


def test_what_has_nothing_to_do_with_difficulty_teaches_nothing() -> None:
    rng = random.Random(3)
    coins = [Example(f"Ann has {rng.randint(1, 99)} nuts. " * rng.randint(1, 8), rng.randint(0, 1)) for _ in range(400)]
    assert 0.4 < learned(coins, trained_at="now").figures.auc < 0.6


@pytest.mark.parametrize(
    "given", [[], [Example("q?", 1.0)] * (MIN_EXAMPLES - 1), [Example(f"{n}?", 0.0) for n in range(MIN_EXAMPLES)]]
)
def test_too_little_is_no_ground_for_a_classifier(given: list[Example]) -> None:
    with pytest.raises(TooFew):
        learned(given, trained_at="now")


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30))
@settings(max_examples=60)
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    import numpy as np

    high, low = [score for score, is_wrong in pairs if is_wrong], [score for score, is_wrong in pairs if not is_wrong]
    wins = [1.0 if one > other else 0.5 if one == other else 0.0 for one in high for other in low]
    found = area_under_curve(np.array([float(s) for s, _ in pairs]), np.array([w for _, w in pairs], dtype=bool))
    assert found == pytest.approx(sum(wins) / len(wins) if wins else 0.5)


def test_a_threshold_follows_load_and_budget() -> None:
    rule = Rule(name="easy", policy="direct", max_difficulty=0.0, max_difficulty_at_limit=1.0)
    classifier = trained()
    hard = "Ann has 3 nuts. " * 6 + "How many?"
    assert routed(rule, question=hard, classifier=classifier).policy is None
    pressed = routed(rule, question=hard, classifier=classifier, pressure=Pressure(load=0.2, budget=2.0))
    assert pressed.policy == "direct"
    assert pressed.reasons["pressure"] == "1.000 (load 0.200, budget 2.000)"
    assert float(pressed.reasons["difficulty"]) == pytest.approx(difficulty(classifier, Seen(hard)), abs=1e-4)


def test_a_meter_knows_the_last_minute_only() -> None:
    meter, limits = Meter(), Limits(thoughts_per_minute=4.0, tokens_per_hour=1000.0)
    for second in range(4):
        meter.note(made.NOW_MS + 1000 * second)
    assert meter.pressure(limits, made.NOW_MS + 3000, None) == Pressure(load=1.0, budget=0.0)
    assert meter.pressure(limits, made.NOW_MS + 61_500, 500.0) == Pressure(load=0.5, budget=0.5)
    assert meter.pressure(Limits(), made.NOW_MS + 61_500, 500.0) == Pressure()


def test_a_meter_that_nobody_reads_does_not_grow() -> None:
    meter = Meter()
    for second in range(1000):
        meter.note(made.NOW_MS + 1000 * second)
    assert len(meter._given_ms) == 60


OBSERVED = Observation("q?", True, "4", 0.9, 1.0, is_final=True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"right_answer": "4.0"}, (0.0, 1.0, "right answer")),
        ({"right_answer": "5", "reward": 1.0}, (1.0, 1.0, "right answer")),
        ({"reward": 0.25}, (0.75, 1.0, "reward")),
        ({"is_final": False, "final_answer": "5", "reward": 0.0}, (1.0, 0.5, "thought over")),
        ({"is_final": False, "final_answer": "4"}, (0.0, 0.5, "thought over")),
        ({"answer": None, "is_final": False, "final_answer": "4"}, (1.0, 0.5, "thought over")),
        ({}, (pytest.approx(0.1), 0.25, "confidence")),
        ({"is_direct": False, "agreement": 0.75}, (0.25, 0.25, "vote")),
        ({"is_direct": False, "answer": None}, None),
        ({"answer": None}, None),
    ],
)
def test_an_observation_teaches_by_its_strongest_evidence(changes: dict[str, object], expected: object) -> None:
    import dataclasses

    found = list(examples([dataclasses.replace(OBSERVED, **changes)]))  # type: ignore[arg-type]
    assert [(each.wrong, each.weight, each.source) for each in found] == ([expected] if expected else [])
