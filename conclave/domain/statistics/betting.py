"""Evidence on means of outcomes from 0 to 1, as e-values: valid at every look, under any adaptive choice of what is sampled.

For outcomes x₁ … xₙ with mean m given the past, M(m) = ∫ ∏ (p/m)^xᵢ ((1−p)/(1−m))^(1−xᵢ) dBeta(p; ½, ½) is a test martingale
if they are 0 or 1, and a supermartingale in between, since each factor is convex in x and has mean 1 at the ends. It depends on
n and the sum alone. By Ville's inequality it ever reaches 1/α with probability α at most. This is Robbins' method of mixtures;
its logarithm is a Kullback-Leibler likelihood ratio less half the logarithm of n for what is not known. A product over arms, each
fed by its own outcomes, is one again; against a composite null its least value over the null is evidence (Grünwald, de Heide and
Koolen, arXiv 1906.07801, section 5; Kaufmann and Koolen, arXiv 1811.11419).
"""

import math
from dataclasses import dataclass

_PRIOR = 0.5
_STEPS = 60  # halvings: more than a float can tell apart


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many outcomes there were, and their sum. Each was from 0 to 1."""

    num: float
    total: float

    @property
    def mean(self) -> float:
        """Their mean; one half of none."""
        return self.total / self.num if self.num > 0 else 0.5


def log_evidence_against_mean(outcomes: Outcomes, mean: float) -> float:
    """log M(mean): what the outcomes say against their mean being `mean`. Infinite where it is impossible."""
    return _log_mixture(outcomes) - _log_likelihood(outcomes, mean)


def log_evidence_below(outcomes: Outcomes, bound: float) -> float:
    """Against a mean of at least `bound`."""
    return _log_mixture(outcomes) - _log_likelihood(outcomes, max(bound, outcomes.mean))


def log_evidence_above(outcomes: Outcomes, bound: float) -> float:
    """Against a mean of at most `bound`."""
    return _log_mixture(outcomes) - _log_likelihood(outcomes, min(bound, outcomes.mean))


def log_evidence_of_lead(first: Outcomes, second: Outcomes, by: float = 0.0) -> float:
    """Against the mean of `first` being at most that of `second` plus `by`; `by` is from 0 to 1."""
    mixture = _log_mixture(first) + _log_mixture(second)
    if first.mean <= second.mean + by:
        return mixture - _log_likelihood(first, first.mean) - _log_likelihood(second, second.mean)
    lower, upper = (
        0.0,
        1.0 - by,
    )  # of the second's mean; the likelihood on the null's edge is concave, so its slope falls
    for _ in range(_STEPS):
        middle = (lower + upper) / 2
        if _slope(first, middle + by) + _slope(second, middle) > 0:
            lower = middle
        else:
            upper = middle
    middle = (lower + upper) / 2
    return mixture - _log_likelihood(first, middle + by) - _log_likelihood(second, middle)


def interval(outcomes: Outcomes, risk: float) -> tuple[float, float]:
    """Lower and upper bound of the mean: it lies between them at all times at once, but for a probability of `risk`."""
    if outcomes.num <= 0:
        return 0.0, 1.0
    wanted = math.log(1 / risk)
    return _edge(outcomes, wanted, 0.0), _edge(outcomes, wanted, 1.0)


def _edge(outcomes: Outcomes, wanted: float, end: float) -> float:
    """Where, from the mean towards `end`, the evidence reaches `wanted`; rounded outwards."""
    inside, outside = outcomes.mean, end
    if log_evidence_against_mean(outcomes, outside) < wanted:
        return outside
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if log_evidence_against_mean(outcomes, middle) < wanted:
            inside = middle
        else:
            outside = middle
    return outside


def _log_mixture(outcomes: Outcomes) -> float:
    from scipy.special import betaln  # seconds to import, and wanted by few of those who import this

    failures = max(0.0, outcomes.num - outcomes.total)
    return float(betaln(outcomes.total + _PRIOR, failures + _PRIOR) - betaln(_PRIOR, _PRIOR))


def _log_likelihood(outcomes: Outcomes, mean: float) -> float:
    failures = max(0.0, outcomes.num - outcomes.total)
    return _times_log(outcomes.total, mean) + _times_log(failures, 1.0 - mean)


def _times_log(count: float, probability: float) -> float:
    if count <= 0:
        return 0.0
    return count * math.log(probability) if probability > 0 else -math.inf


def _slope(outcomes: Outcomes, mean: float) -> float:
    """Of the log-likelihood at `mean`."""
    failures = max(0.0, outcomes.num - outcomes.total)
    up = 0.0 if outcomes.total <= 0 else outcomes.total / mean if mean > 0 else math.inf
    down = 0.0 if failures <= 0 else failures / (1.0 - mean) if mean < 1 else math.inf
    return up - down
