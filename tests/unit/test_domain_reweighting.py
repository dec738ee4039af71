"""From counts to shares: exact, bounded, in no haste, and computed again by anyone."""

import dataclasses
import math
import random

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from conclave.domain.experiments.assignment import arm_at, draw
from conclave.domain.experiments.evidence import ANSWERED, Cell, Evidence, added, key_of
from conclave.domain.experiments.posterior import belief, probabilities_of_best
from conclave.domain.experiments.reweighting import digest, next_weights
from conclave.domain.experiments.targets import best_arm, towards, with_floor
from conclave.domain.experiments.verification import Assigned, check_assignments, check_evidence, check_weights
from conclave.testing import events as made
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.experiments import HOLDOUT, Arm, Guardrail, Metric, MetricCounts, Mode
from tests.observed_arms import DAY_MS, evidence, experiment, observed, started

_beliefs = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.floats(1, 3000), st.floats(1, 3000)), min_size=2, max_size=6
)


@settings(max_examples=40)
@given(_beliefs)
def test_probabilities_of_being_best_add_up_and_belong_to_arms_not_names(
    beliefs: dict[str, tuple[float, float]],
) -> None:
    best = probabilities_of_best(beliefs)
    assert math.isclose(sum(best.values()), 1.0, abs_tol=1e-12)
    assert all(0 <= value <= 1 for value in best.values())
    renamed = probabilities_of_best({f"z{name}": each for name, each in beliefs.items()})
    assert list(renamed.values()) == list(best.values())
    mirrored = probabilities_of_best(dict(reversed(beliefs.items())))
    assert mirrored == best


def test_quadrature_is_exact_where_there_is_a_closed_form() -> None:
    def exact(b: tuple[int, int], a: tuple[int, int]) -> float:
        """P(a > b) for whole numbers, after Cook, "Exact calculation of beta inequalities" (2005)."""

        def log_beta(x: float, y: float) -> float:
            return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

        return sum(
            math.exp(log_beta(b[0] + i, b[1] + a[1]) - math.log(a[1] + i) - log_beta(1 + i, a[1]) - log_beta(*b))
            for i in range(a[0])
        )

    for a, b in [((2, 1), (1, 1)), ((30, 10), (20, 20)), ((600, 400), (590, 410)), ((3, 900), (500, 2))]:
        found = probabilities_of_best({"a": a, "b": b})["a"]
        assert math.isclose(found, exact(b, a), abs_tol=1e-9), (a, b)


def test_quadrature_agrees_with_draws() -> None:
    beliefs = {"a": (40.0, 60.0), "b": (45.0, 55.0), "c": (4.0, 6.0), "d": (900.0, 1100.0)}
    rng = np.random.default_rng(1)
    draws = np.stack([rng.beta(*each, size=200_000) for each in beliefs.values()])
    won = np.bincount(draws.argmax(axis=0), minlength=4) / 200_000
    for name, share in zip(beliefs, won, strict=True):
        assert abs(probabilities_of_best(beliefs)[name] - share) < 0.005


def test_evidence_fades_period_by_period() -> None:
    fading = experiment(discount=0.5, period_s=86_400.0)
    today = made.NOW_MS // DAY_MS
    old, new = (Cell("reward", "a", 0, today - age, observed(8, 4.0)) for age in (2, 0))
    assert belief(fading, Evidence((old, new), made.NOW_MS), "a") == (1 + 4 / 4 + 4, 1 + 4 / 4 + 4)
    assert belief(fading, Evidence((old, new), made.NOW_MS), "b") == (1.0, 1.0)
    assert belief(fading, Evidence((old,), made.NOW_MS + DAY_MS), "a") == (1.5, 1.5)


def test_early_words_move_shares_but_prove_nothing_and_silence_counts_only_where_it_has_a_worth() -> None:
    counts = MetricCounts(
        num_units=10, num_observed=4, num_early=2, num_pending=1, num_missing=3, sum_micro=3_000_000, early_micro=0
    )
    cell = Cell("accepted", "a", 0, 0, counts)
    unknown, worthless = (experiment(goal=Metric(name="accepted", missing=missing)) for missing in (None, 0.0))
    assert belief(unknown, Evidence((cell,), made.NOW_MS), "a") == (4.0, 4.0)
    assert belief(worthless, Evidence((cell,), made.NOW_MS), "a") == (4.0, 5.0)


def test_nothing_moves_before_every_arm_was_observed_often_enough() -> None:
    assert next_weights(started(), evidence(a=(200, 10.0), b=(19, 19.0)), None, {}) is None
    moved = next_weights(started(), evidence(a=(200, 10.0), b=(20, 20.0)), None, {})
    assert moved is not None
    assert moved.allocation["b"] > 0.9


def test_the_same_evidence_twice_says_nothing_new() -> None:
    first = next_weights(started(), evidence(a=(50, 20.0), b=(50, 30.0)), None, {"reasoning.feedback/0": 7})
    assert first is not None
    assert (first.version, first.watermark, first.previous_digest) == (1, {"reasoning.feedback/0": 7}, "")
    assert next_weights(started(), evidence(a=(50, 20.0), b=(50, 30.0)), first, {"reasoning.feedback/0": 9}) is None


@settings(max_examples=60)
@given(
    st.sampled_from(Mode),
    st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1)), min_size=2, max_size=5),
    st.floats(0, 0.19),
    st.floats(0, 0.5),
    st.floats(0.01, 1),
    st.integers(0, 3),
)
def test_whatever_the_evidence_floor_cap_and_holdout_are_kept(
    mode: Mode, counts: list[tuple[int, float]], floor: float, holdout: float, max_change: float, before: int
) -> None:
    arms = {f"arm-{place}": Arm(policy="p") for place in range(len(counts))}
    change = made.started(
        experiment(mode, arms=arms, control="arm-0", floor=floor, holdout=holdout, max_change=max_change)
    )
    cells = [
        Cell("reward", arm, 0, 0, observed(num, num * share)) for arm, (num, share) in zip(arms, counts, strict=True)
    ]
    found = Evidence(tuple(sorted(cells)), made.NOW_MS)
    previous = None
    for _ in range(before):
        previous = next_weights(change, found, previous, {}) or previous
    weights = next_weights(change, found, previous, {})
    if weights is None:
        return
    assert math.isclose(sum(weights.allocation.values()), 1.0, abs_tol=1e-9)
    assert math.isclose(weights.allocation.get(HOLDOUT, 0.0), holdout, abs_tol=2e-6)
    last = previous.allocation if previous else {arm: (1 - holdout) / len(arms) for arm in arms}
    for arm in arms:
        assert weights.allocation[arm] >= floor * (1 - holdout) - 3e-6
        assert abs(weights.allocation[arm] - last[arm]) <= max_change * (1 - holdout) + 3e-6
    assert list(check_weights([change], [each for each in (weights,) if previous is None])) == []


@given(
    st.dictionaries(st.sampled_from("abcde"), st.floats(0, 1), min_size=2).filter(lambda each: sum(each.values()) > 0)
)
def test_top_two_serves_the_best_arm_half_the_time_at_least_while_it_is_ahead(best: dict[str, float]) -> None:
    whole = sum(best.values())
    best = {arm: value / whole for arm, value in best.items()}
    shares = best_arm(experiment(), best)
    assert math.isclose(sum(shares.values()), 1.0, abs_tol=1e-9)
    assert max(shares.values()) <= 0.5 + max(best.values()) / 2 + 1e-9
    assert with_floor(shares, 0.1).keys() == shares.keys()
    assert towards(shares, shares, 0.1) == shares


def test_a_winner_is_named_once_it_beats_each_of_the_others_and_stays() -> None:
    change = started(mode=Mode.BEST_ARM, floor=0.1)
    weights = next_weights(change, evidence(a=(400, 120.0), b=(400, 260.0)), None, {})
    assert weights is not None
    assert (weights.winner, weights.reason, weights.allocation) == ("b", "winner", {"a": 0.1, "b": 0.9})
    after = next_weights(change, evidence(a=(900, 700.0), b=(900, 300.0)), weights, {})
    assert after is None or after.winner == "b"
    fixed = next_weights(started(mode=Mode.FIXED), evidence(a=(400, 120.0), b=(400, 260.0)), None, {})
    assert fixed is not None
    assert (fixed.winner, fixed.allocation) == ("b", {"a": 0.5, "b": 0.5})


def test_an_arm_that_breaks_a_guardrail_loses_all_its_traffic_at_once_and_for_good() -> None:
    rail = Guardrail(metric=ANSWERED, max_drop=0.05)
    change = started(arms={name: Arm(policy="p") for name in "abc"}, guardrails=(rail,), max_change=0.01, holdout=0.1)
    cells = [
        Cell(key_of(ANSWERED), arm, 0, 0, observed(300, total))
        for arm, total in zip("abc", (297, 200, 296), strict=True)
    ]
    found = Evidence(tuple(sorted([*cells, *evidence(a=(50, 5.0), b=(50, 50.0), c=(50, 6.0)).cells])), made.NOW_MS)
    weights = next_weights(change, found, None, {})
    assert weights is not None
    assert (weights.reason, weights.out, weights.winner) == ("guardrail", {"b": "answered"}, None)
    assert weights.allocation == {"a": 0.6, "b": 0.0, "c": 0.3, HOLDOUT: 0.1}
    good = Evidence(tuple(replace_counts(cell, 300) for cell in found.cells), made.NOW_MS)
    after = next_weights(change, good, weights, {})
    assert after is not None
    assert (after.allocation["b"], after.out) == (0.0, {"b": "answered"})
    again = next_weights(replace(change, revision=2), good, weights, {})
    assert again is None or (again.version, again.out) == (2, {})


def replace_counts(cell: Cell, total: int) -> Cell:
    return Cell(cell.metric, cell.arm, cell.weights_version, cell.period, observed(300, total))


def test_the_control_is_never_out() -> None:
    change = started(guardrails=(Guardrail(metric=Metric(), at_least=0.9),))
    weights = next_weights(change, evidence(a=(300, 10.0), b=(300, 12.0)), None, {})
    assert weights is not None
    assert weights.out == {"b": "reward"}
    assert weights.allocation == {"a": 1.0, "b": 0.0}


def _chain(change: ExperimentChanged) -> list[WeightsPublished]:
    versions: list[WeightsPublished] = []
    for num in (50, 100, 150):
        found = evidence(a=(num, num * 0.4), b=(num, num * 0.5))
        weights = next_weights(change, found, versions[-1] if versions else None, {"reasoning.feedback/0": num})
        assert weights is not None
        versions.append(weights)
    return versions


def test_what_was_published_is_computed_again_from_what_is_stored() -> None:
    change = started()
    versions = [msgspec.json.decode(msgspec.json.encode(each), type=WeightsPublished) for each in _chain(change)]
    assert list(check_weights([change], versions)) == []
    for place, num in enumerate((50, 100, 150)):
        found = evidence(a=(num, num * 0.4), b=(num, num * 0.5))
        assert list(check_evidence(change, found, versions[place], versions[place - 1] if place else None)) == []
    other = evidence(a=(50, 20.0), b=(50, 26.0))
    assert list(check_evidence(change, other, versions[0], None))


def test_any_byte_changed_in_what_is_stored_is_found() -> None:
    change, rng = started(), random.Random(3)
    versions = _chain(change)
    encoded = [msgspec.json.encode(each) for each in versions]
    found = tried = 0
    while tried < 150:
        place = rng.randrange(3)
        at = rng.randrange(len(encoded[place]))
        changed = bytearray(encoded[place])
        changed[at] = rng.choice(b'0123456789abcdef"{}:,')
        try:
            other = msgspec.json.decode(bytes(changed), type=WeightsPublished)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # not even JSON of that schema
        if other == versions[place]:
            continue
        tried += 1
        found += bool(list(check_weights([change], [*versions[:place], other, *versions[place + 1 :]])))
    assert found == tried


@pytest.mark.parametrize("gone", [0, 1])
def test_a_version_left_out_is_found(gone: int) -> None:
    change = started()
    versions = _chain(change)
    del versions[gone]
    assert list(check_weights([change], versions))


def test_a_chain_signed_anew_does_not_hide_what_was_changed() -> None:
    change = started()
    versions = _chain(change)
    forged = replace(versions[1], allocation={"a": 0.9, "b": 0.1})
    forged = replace(forged, digest=digest(forged))
    after = replace(versions[2], previous_digest=forged.digest)
    after = replace(after, digest=digest(after))
    assert any("allocation" in each.where for each in check_weights([change], [versions[0], forged, after]))


def test_assignments_are_drawn_again() -> None:
    change = started()
    versions = _chain(change)
    drawn = draw(change.definition, "ann")
    arm = arm_at(versions[1].allocation, drawn)
    good = Assigned("r", 1, "ann", drawn, arm.arm, arm.propensity, 2)
    assert list(check_assignments([change], versions, [good])) == []
    for wrong in (
        {"unit": "bob"}, {"draw": drawn ^ 1}, {"arm": "c"}, {"propensity": 0.5}, {"weights_version": 9}, {"revision": 2},
    ):  # fmt: skip
        assert list(check_assignments([change], versions, [dataclasses.replace(good, **wrong)])), wrong
    erased = dataclasses.replace(good, unit=None)
    assert list(check_assignments([change], versions, [erased])) == []


def test_counts_add_up_field_by_field() -> None:
    assert added([observed(2, 1.0), observed(3, 2.5)]) == observed(5, 3.5)
    assert added([]) == MetricCounts()
