"""Segments of an experiment: shares of their own, a prior that they share, and all of it computed again."""

import math
import random

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from conclave.domain.experiments.evidence import Cell
from conclave.domain.experiments.history import history
from conclave.domain.experiments.judging import over_segments
from conclave.domain.experiments.pooling import borrowed_counts, correlation, pooled
from conclave.domain.experiments.reweighting import decided, next_weights
from conclave.domain.experiments.states import strata_of
from conclave.testing import events as made
from schemas.experiments import Arm, Guardrail, Metric, MetricCounts, Mode
from tests.segmented import ALIKE, DIFFERENT, UNNAMED, cell, evidence, started, versions_of

_counts = st.tuples(st.integers(0, 400), st.floats(0, 1)).map(
    lambda each: (1 + each[0] * each[1], 1 + each[0] * (1 - each[1]))
)

_beliefs = st.dictionaries(st.sampled_from("uvwxyz"), st.fixed_dictionaries({"a": _counts, "b": _counts}), min_size=1)

_rho = st.floats(0, 1)


@settings(max_examples=50)
@given(_counts, _counts, _rho)
def test_a_single_segment_borrows_nothing_to_the_bit(
    a: tuple[float, float], b: tuple[float, float], rho: float
) -> None:
    assert pooled({"": {"a": a, "b": b}}, rho) == {"": {"a": a, "b": b}}


@settings(max_examples=80)
@given(_beliefs, _rho)
def test_what_is_believed_lies_between_a_segment_s_own_word_and_that_of_the_others(
    own: dict[str, dict[str, tuple[float, float]]], rho: float
) -> None:
    found, borrowed = pooled(own, rho), borrowed_counts(own, rho)
    for segment, beliefs in found.items():
        for arm, (alpha, beta) in beliefs.items():
            own_alpha, own_beta = own[segment][arm]
            lent = (alpha - own_alpha, beta - own_beta)
            assert math.isclose(sum(lent), borrowed[segment][arm], abs_tol=1e-6)
            assert min(lent) >= -1e-9
            assert sum(lent) <= (1 - rho) / rho + 1e-6 if rho > 1e-6 else True
            of_others = [own[other][arm] for other in own if other != segment]
            assert sum(lent) <= sum(sum(each) - 2 for each in of_others) * (1 + 1e-9) + 1e-6, "never more than there is"
            if sum(lent) > 1e-6:
                ends = sorted((own_alpha / (own_alpha + own_beta), lent[0] / sum(lent)))
                assert ends[0] - 1e-9 <= alpha / (alpha + beta) <= ends[1] + 1e-9


@settings(max_examples=40)
@given(_beliefs)
def test_without_correlation_there_is_one_belief_for_all_and_with_all_of_it_each_stands_alone(
    own: dict[str, dict[str, tuple[float, float]]],
) -> None:
    assert 0.0 <= correlation(own) <= 1.0
    assert pooled(own, 1.0) == {segment: dict(beliefs) for segment, beliefs in own.items()}
    whole = {arm: [sum(each[arm][side] - 1 for each in own.values()) + 1 for side in (0, 1)] for arm in "ab"}
    for beliefs in pooled(own, 0.0).values():
        for arm in "ab":
            assert beliefs[arm] == pytest.approx(whole[arm])


def test_the_correlation_is_found_again_from_segments_that_were_drawn_with_it() -> None:
    rng, num = random.Random(7), 150
    for rho in (0.02, 0.1, 0.3):
        strength = 1 / rho - 1
        own = {}
        for number in range(200):
            means = {
                arm: rng.betavariate(mean * strength, (1 - mean) * strength) for arm, mean in (("a", 0.4), ("b", 0.6))
            }
            good = {arm: sum(rng.random() < mean for _ in range(num)) for arm, mean in means.items()}
            own[f"s{number}"] = {arm: (1.0 + each, 1.0 + num - each) for arm, each in good.items()}
        assert correlation(own) == pytest.approx(rho, rel=0.15)
    assert correlation({"u": {"a": (9.0, 3.0)}}) == pytest.approx(0.1), "one segment says nothing of how they differ"


def test_an_experiment_whose_requests_have_no_segment_is_dealt_out_as_one_without() -> None:
    look = evidence(cell("a", 50, 20), cell("b", 50, 30))
    (with_segments,), (without,) = versions_of(started(), [look]), versions_of(started(segment_by=""), [look])
    assert with_segments.allocation == without.allocation
    assert with_segments.states == without.states
    assert with_segments.segments == without.segments == {}


def test_a_value_is_named_once_it_has_units_enough_and_starts_by_what_the_others_have_shown() -> None:
    cells = [cell(arm, 30, total, segment=of) for of in ("sums", "words") for arm, total in (("a", 10), ("b", 20))]
    (first,) = versions_of(started(), [evidence(*cells, cell("a", 19, 6, segment="odd"))])
    assert list(first.segments) == ["sums", "words"]
    for each in first.segments.values():
        assert each.since == 1
        assert 0.7 < each.allocation["b"] < first.allocation["b"], "as the rest, but less sure of it"
        assert all(state.counts["reward"] == MetricCounts() for state in each.states.values())
    assert first.states["a"].counts["reward"].num_units == 79, "what was drawn by the rest's shares stays the rest's"


def test_there_are_no_more_segments_than_was_said_and_those_with_most_units_come_first() -> None:
    change = started(max_segments=2)
    cells = [cell(arm, 30 + number, 15, segment=f"t{number}") for number in range(5) for arm in "ab"]
    (first,) = versions_of(change, [evidence(*cells)])
    assert set(first.segments) == {"t3", "t4"}
    assert set(strata_of(change.definition, evidence(*cells, *DIFFERENT), first.segments)) == {"", "t3", "t4"}


def test_segments_that_differ_are_dealt_out_each_by_its_own_word() -> None:
    _, second = versions_of(started(), [evidence(*UNNAMED), evidence(*UNNAMED, *DIFFERENT)])
    assert second.segments["sums"].allocation["b"] > 0.9
    assert second.segments["words"].allocation["a"] > 0.9
    assert 0.2 < second.allocation["a"] < 0.8, "a new kind of task may be like either"
    assert second.segment_correlation > 0.1


def test_segments_that_are_alike_learn_from_each_other() -> None:
    first, second = versions_of(started(), [evidence(*UNNAMED), evidence(*UNNAMED, *ALIKE)])
    alone = [each for each in ALIKE if each.segment == "sums"]
    by_itself = next_weights(started(), evidence(*UNNAMED, *alone), first, {})
    assert by_itself is not None
    assert second.segment_correlation < 0.01
    assert (
        second.segments["sums"].states["b"].probability_best > by_itself.segments["sums"].states["b"].probability_best
    )
    assert second.allocation["b"] > 0.8, "a new kind of task starts with what the others have shown"


def test_a_winner_is_of_its_segment_and_sticks() -> None:
    change = started(mode=Mode.BEST_ARM)
    _, second = versions_of(change, [evidence(*UNNAMED), evidence(*UNNAMED, *DIFFERENT)])
    assert (second.winner, second.reason) == (None, "winner")
    assert {segment: each.winner for segment, each in second.segments.items()} == {"sums": "b", "words": "a"}
    assert "b is better than each of the others in sums; a is better" in history([change], [second])[-1].why
    turned = [cell(arm, 400, total, segment="sums", version=2) for arm, total in (("a", 400), ("b", 0))]
    third = next_weights(change, evidence(*UNNAMED, *DIFFERENT, *turned), second, {})
    assert third is None or third.segments["sums"].winner == "b"


def test_an_arm_that_breaks_a_guardrail_in_one_segment_is_out_of_all_at_once() -> None:
    guardrail = Guardrail(metric=Metric(name="answered", missing=0.0), at_least=0.9)
    change = started(guardrails=(guardrail,))
    answered = [
        cell("b", 200, 196 if of == "sums" else 100, segment=of, version=1, metric="answered")
        for of in ("sums", "words")
    ]
    first, second = versions_of(change, [evidence(*UNNAMED), evidence(*UNNAMED, *DIFFERENT, *answered)])
    assert (second.out, second.reason) == ({"b": "answered"}, "guardrail")
    for allocation in (second.allocation, *(each.allocation for each in second.segments.values())):
        assert allocation == {"a": 1.0, "b": 0.0}
    assert first.out == {}


@settings(max_examples=60)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=5))
def test_evidence_over_segments_is_worth_a_bit_less_than_the_best_of_it_and_no_more_than_all(logs: list[float]) -> None:
    found = over_segments(logs, 6)
    assert found >= max(*logs, 0.0) - math.log(12) - 1e-9
    assert found >= sum(logs) - math.log(2) - 1e-9
    assert math.exp(found) <= 0.5 * math.exp(sum(logs)) + 0.5 * math.exp(max(*logs, 0.0)) * (1 + 1e-9)
    assert over_segments(logs[:1], 1) == logs[0]


def test_evidence_over_segments_that_keep_to_it_is_one_on_average() -> None:
    rng, found = random.Random(3), []
    for _ in range(4000):  # e-values of two outcomes: 1.8 or 0.2
        found.append(math.exp(over_segments([math.log(rng.choice((1.8, 0.2))) for _ in range(3)], 5)))
    assert sum(found) / len(found) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"mode": Mode.FIXED}, "segment_by"),
        ({"unit": "task"}, "segment_by"),
        ({"arms": {f"arm{number}": Arm(policy="default") for number in range(9)}, "control": "arm0"}, "max_segments"),
    ],
)
def test_what_segments_cannot_be_is_refused_at_its_field(changes: dict[str, object], at: str) -> None:
    with pytest.raises(ValueError, match=rf"at `\$\.{at}`"):
        started(**changes)


def test_the_largest_version_fits_its_event() -> None:
    guardrails = tuple(Guardrail(metric=Metric(name=f"{number}" * 60), at_least=0.5) for number in range(8))
    arms = {f"{number:03}" * 20: Arm(policy="default") for number in range(8)}
    change = started(arms=arms, control=next(iter(arms)), guardrails=guardrails, floor=0.0, min_observations=1)
    big = 10**12
    counts = MetricCounts(
        num_units=big, num_observed=big, num_early=big, num_pending=big, num_missing=big, sum_micro=big
    )
    keys = ["reward", "answered", *(each.metric.name for each in guardrails)]
    cells = [Cell(key, arm, 1, 0, counts, f"{of}" * 60) for key in keys for arm in arms for of in range(8)]
    (first,) = versions_of(change, [evidence(*cells)])
    strata = strata_of(change.definition, evidence(*cells), first.segments)
    second = decided(change, strata, first, as_of_ms=made.NOW_MS, watermark={})
    assert len(second.segments) == 8
    assert all(state.counts["reward"].num_units == big for state in second.segments["0" * 60].states.values())
    assert len(msgspec.json.encode(second)) < 256 * 1024


def test_units_of_before_a_segment_was_named_stay_the_rest_s() -> None:
    change = started()
    (first,) = versions_of(change, [evidence(*UNNAMED)])
    strata = strata_of(change.definition, evidence(*UNNAMED, *DIFFERENT), first.segments)
    assert strata[""]["a"].counts["reward"].num_units == 60
    assert strata["sums"]["a"].counts["reward"].num_units == 200
