"""Evidence that holds at every look: against closed forms, against ville, and against what it promises."""

import json
import math
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from ville import BernoulliCS, BernoulliTest

from conclave.domain.statistics.betting import (
    Outcomes,
    interval,
    log_evidence_above,
    log_evidence_against_mean,
    log_evidence_below,
    log_evidence_of_lead,
)
from conclave.domain.statistics.dealing import Dealt, log_evidence_of_tilt
from conclave.domain.statistics.estimating import Served, TooFew, augmented, self_normalised
from conclave.domain.statistics.paired import Differences, log_evidence_of_difference

_outcomes = st.tuples(st.integers(0, 2000), st.floats(0, 1)).map(lambda drawn: Outcomes(drawn[0], drawn[0] * drawn[1]))


def _of(xs: list[int]) -> Outcomes:
    return Outcomes(len(xs), sum(xs))


@pytest.mark.parametrize("mean", [0.02, 0.3, 0.5, 0.97])
def test_evidence_and_intervals_are_those_of_ville(mean: float) -> None:
    rng = np.random.default_rng(int(mean * 100))
    xs = (rng.random(400) < mean).astype(float)
    evidence = BernoulliTest(0.4, prior=(0.5, 0.5)).fit(xs).log_e_values_
    bounds = BernoulliCS(alpha=0.05, prior=(0.5, 0.5), intersect=False).fit(xs)
    for num in (1, 2, 10, 50, 400):
        outcomes = Outcomes(num, float(xs[:num].sum()))
        assert math.isclose(log_evidence_against_mean(outcomes, 0.4), evidence[num - 1], abs_tol=1e-9)
        lower, upper = interval(outcomes, 0.05)
        assert math.isclose(lower, bounds.lower_[num - 1], abs_tol=1e-6)
        assert math.isclose(upper, bounds.upper_[num - 1], abs_tol=1e-6)


def test_evidence_and_intervals_are_those_of_savvi() -> None:
    # What it said of the same outcomes is kept, as it needs cvxpy, matplotlib and 400 MB more than these twelve rows.
    said = json.loads((Path(__file__).parents[1] / "data" / "savvi.json").read_text())["rows"]
    assert len(said) == 12
    for row in said:
        outcomes = Outcomes(row["num"], row["total"])
        assert math.isclose(log_evidence_against_mean(outcomes, 0.5), row["log_odds"], abs_tol=1e-9)
        assert interval(outcomes, 0.05) == pytest.approx((row["low"], row["high"]), abs=2e-6)


@settings(max_examples=60)
@given(_outcomes, st.floats(0.001, 0.4))
def test_an_interval_holds_the_mean_seen_and_grows_with_the_certainty_wanted(outcomes: Outcomes, risk: float) -> None:
    lower, upper = interval(outcomes, risk)
    assert 0 <= lower <= outcomes.mean <= upper <= 1
    surer = interval(outcomes, risk / 10)
    assert surer[0] <= lower
    assert upper <= surer[1]


@settings(max_examples=60)
@given(_outcomes, _outcomes, st.floats(0, 0.5))
def test_evidence_of_a_lead_is_the_least_over_all_means_that_deny_it(
    first: Outcomes, second: Outcomes, by: float
) -> None:
    found = log_evidence_of_lead(first, second, by)
    grid = [place / 40 for place in range(1, 40)]
    denying = [
        log_evidence_against_mean(first, one) + log_evidence_against_mean(second, other)
        for one in grid
        for other in grid
        if one <= other + by
    ]
    assert found <= min(denying) + 1e-9


@settings(max_examples=60)
@given(_outcomes, st.floats(0.01, 0.99))
def test_one_sided_evidence_is_the_two_sided_one_on_its_side_only(outcomes: Outcomes, bound: float) -> None:
    both = log_evidence_against_mean(outcomes, bound)
    sides = (log_evidence_below(outcomes, bound), log_evidence_above(outcomes, bound))
    assert math.isclose(max(sides), both, abs_tol=1e-9)
    assert min(sides) <= 1e-9


def test_a_mean_that_can_not_be_is_refuted_for_good() -> None:
    assert log_evidence_against_mean(Outcomes(3, 1), 0.0) == math.inf
    assert log_evidence_against_mean(Outcomes(3, 0), 0.0) < 2
    assert log_evidence_of_lead(Outcomes(0, 0), Outcomes(0, 0)) == 0
    assert log_evidence_of_lead(Outcomes(400, 400), Outcomes(400, 0), by=0.9) > 10


@pytest.mark.parametrize("mean", [0.1, 0.6])
def test_equal_arms_are_rarely_told_apart_however_often_they_are_looked_at(mean: float) -> None:
    rng, alarms = random.Random(7), 0
    for _ in range(100):
        arms: list[list[int]] = [[], []]
        for _ in range(150):
            # The arm ahead is served more often: adaptive, as in an experiment.
            ahead = 0 if sum(arms[0]) >= sum(arms[1]) else 1
            arms[ahead if rng.random() < 0.7 else 1 - ahead].append(int(rng.random() < mean))
            if log_evidence_of_lead(_of(arms[0]), _of(arms[1])) >= math.log(1 / 0.05):
                alarms += 1
                break
    assert alarms / 100 <= 0.05


def test_a_sequence_of_intervals_misses_the_mean_no_more_often_than_it_may() -> None:
    rng, missed = random.Random(11), 0
    for _ in range(60):
        total = 0.0
        for num in range(1, 61):
            total += min(1.0, max(0.0, rng.gauss(0.3, 0.2))) if rng.random() < 0.5 else 0.0
            lower, upper = interval(Outcomes(num, total), 0.1)
            if not lower <= 0.1535 <= upper:
                missed += 1
                break
    assert missed / 60 <= 0.1


def _dealt(
    rng: random.Random, num: int, share: Callable[[int, int], float], leak: float = 0.0
) -> Iterator[dict[int, Dealt]]:
    """What was dealt so far, at looks of 50 units: shares that move as counts do, and an arm that loses some of its units."""
    dealt: dict[int, Dealt] = {}
    totals = {"a": 0, "b": 0}
    for version in range(num // 50):
        shares = {"a": share(totals["a"], totals["b"])}
        shares["b"] = 1 - shares["a"]
        counts = {"a": 0, "b": 0}
        for _ in range(50):
            arm = "a" if rng.random() < shares["a"] else "b"
            if arm == "b" and rng.random() < leak:
                continue
            counts[arm] += 1
            totals[arm] += 1
        dealt[version] = Dealt(shares, counts)
        yield dealt


def _adaptive(num_a: int, num_b: int) -> float:
    """Shares that chase the counts: nothing that a fixed ratio could describe."""
    return min(0.9, max(0.1, (num_a + 1) / (num_a + num_b + 2) + 0.1))


def test_healthy_experiments_raise_no_alarm_however_their_shares_move() -> None:
    rng = random.Random(5)
    wanted = math.log(1000)
    alarms = sum(
        any(log_evidence_of_tilt(dealt.values()) >= wanted for dealt in _dealt(rng, 2000, _adaptive)) for _ in range(60)
    )
    assert alarms == 0


def test_an_arm_that_loses_units_is_found() -> None:
    rng = random.Random(6)
    *_, last = _dealt(rng, 20_000, lambda a, b: 0.5, leak=0.1)
    assert log_evidence_of_tilt(last.values()) >= math.log(1000)
    assert log_evidence_of_tilt([Dealt({"a": 1.0, "b": 0.0}, {"b": 1})]) == math.inf
    assert log_evidence_of_tilt([]) == 0
    assert log_evidence_of_tilt([Dealt({"a": 1.0}, {"a": 7})]) == 0


def _logged(rng: random.Random, num: int, means: dict[str, float]) -> list[dict[str, float | str]]:
    """A log of an adaptive experiment: propensity, arm and reward of each unit, in batches of 25."""
    log: list[dict[str, float | str]] = []
    for _ in range(num // 25):
        won = {arm: [float(row["reward"]) for row in log if row["arm"] == arm] for arm in means}
        leads = np.mean(won["b"] or [0.5]) > np.mean(won["a"] or [0.5])
        share = {"a": 0.2 if leads else 0.8, "b": 0.8 if leads else 0.2}
        for _ in range(25):
            arm = "a" if rng.random() < share["a"] else "b"
            log.append({"arm": arm, "propensity": share[arm], "reward": float(rng.random() < means[arm])})
    return log


def _served(log: list[dict[str, float | str]], arm: str) -> list[Served]:
    found = []
    for start in range(0, len(log), 25):
        batch = log[start : start + 25]
        own = [row for row in batch if row["arm"] == arm]
        other = next(float(row["propensity"]) for row in batch)
        share = other if batch[0]["arm"] == arm else 1 - other
        found.append(Served(len(batch), share, len(own), sum(float(row["reward"]) for row in own)))
    return found


def test_self_normalised_estimates_are_inverse_propensity_rewards_of_coba_by_the_sum_of_the_weights() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own source has escapes that Python warns of
        from coba import LoggedInteraction
        from coba.environments.filters import OpeRewards
    log = _logged(random.Random(1), 500, {"a": 0.4, "b": 0.6})
    for arm in ("a", "b"):
        interactions = [LoggedInteraction(None, row["arm"], row["reward"], row["propensity"]) for row in log]
        rewards = [each["rewards"](arm) for each in OpeRewards("IPS").filter(interactions)]
        weight = sum(1 / float(row["propensity"]) for row in log if row["arm"] == arm)
        assert math.isclose(self_normalised(_served(log, arm)).value, sum(rewards) / weight, rel_tol=1e-9)


def test_estimates_are_centred_on_the_truth_and_as_sure_as_they_say() -> None:
    rng, means = random.Random(2), {"a": 0.4, "b": 0.55}
    found: dict[str, list[float]] = {"snips": [], "aipw": []}
    for _ in range(80):
        served = _served(_logged(rng, 400, means), "b")
        for name, estimate in (
            ("snips", self_normalised(served, least=1)),
            ("aipw", augmented(served, least=1)),
        ):
            found[name].append((estimate.value - means["b"]) / estimate.error)
    for name, deviations in found.items():
        assert abs(float(np.mean(deviations))) < 0.45, name
        assert 0.7 < float(np.std(deviations)) < 1.4, name


def test_too_few_are_refused_by_their_effective_number() -> None:
    few = [Served(1000, 0.01, 10, 5)]
    for estimate in (self_normalised, augmented):
        with pytest.raises(TooFew, match=r"effective sample of 10\.0; at least 30"):
            estimate(few)
        with pytest.raises(TooFew):
            estimate([])
        assert 0 <= estimate(few, least=5).error < 1


@settings(max_examples=60)
@given(st.lists(st.floats(-1, 1), max_size=40), st.floats(-0.9, 0.9))
def test_what_pairs_say_is_never_more_than_each_of_them_said_and_just_that_where_they_are_whole(
    differences: list[float], above: float
) -> None:
    def summed(of: list[float]) -> float:
        better, worse = sum(max(each, 0.0) for each in of), sum(max(-each, 0.0) for each in of)
        return log_evidence_of_difference(Differences(len(of), better, worse), above)

    def one_by_one(of: list[float]) -> float:
        bets = [*(2.0**-k for k in range(1, 13)), *(1.0 - 2.0**-k for k in range(2, 8))]
        wealth = [math.prod(1 + bet / (1 + above) * (each - above) for each in of) for bet in bets]
        return math.log(sum(wealth) / len(bets))

    assert summed(differences) <= one_by_one(differences) + 1e-9
    whole = [float(round(each)) for each in differences]
    assert math.isclose(summed(whole), one_by_one(whole), abs_tol=1e-6)


def test_evidence_of_a_difference_is_rarely_large_where_there_is_none_and_grows_where_there_is() -> None:
    rng, num_runs = np.random.default_rng(7), 400
    drawn = rng.choice(
        [-1.0, 0.0, 1.0], p=[0.06, 0.92, 0.02], size=(num_runs, 600)
    )  # exactly 0.04 below, question by question
    alarms = 0
    for run in drawn:
        better, worse = np.cumsum(run > 0), np.cumsum(run < 0)
        alarms += any(
            log_evidence_of_difference(Differences(num, float(better[num - 1]), float(worse[num - 1])), -0.04)
            >= math.log(20)
            for num in range(10, 601, 10)
        )
    assert alarms <= 0.05 * num_runs + 3 * math.sqrt(0.05 * 0.95 * num_runs)
    assert log_evidence_of_difference(Differences(600, 6, 6), -0.05) > math.log(100)
    assert log_evidence_of_difference(Differences(600, 6, 60).mirrored(), 0.05) > math.log(1.5)
    assert log_evidence_of_difference(Differences(0, 0, 0), 0.0) == 0.0
    assert log_evidence_of_difference(Differences(9, 0, 9), -1.0) == math.inf
