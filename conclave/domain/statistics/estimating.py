"""What serving one arm to everyone would be worth, from what an experiment served whose shares moved.

Data come by version of the weights: within one, the propensities are constant, so sums say all there is to say. Outcomes lie
between 0 and 1, so their squares add up to no more than they do: variances are those of Bernoulli outcomes, or too large.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_EFFECTIVE = 30.0  # below it, a weighted mean is a few units' word
_NORMAL = 1.959964  # quantile of the standard normal distribution at 97.5 %
# What is added to figures so that an interval does not close where all are alike, of the mean weight together: for a mean two
# successes and two failures (Agresti and Coull, 1998), for a difference of paired ones half of each kind of pair (Agresti and Min,
# 2005).
_OF_MEAN = ((0.0, 2.0), (1.0, 2.0))
_OF_DIFFERENCE = ((-1.0, 0.5), (0.0, 1.0), (1.0, 0.5))


@dataclass(frozen=True, slots=True)
class Served:
    """What one version served: all units with an outcome, and of the arm in question how many, their sum and propensity."""

    num_all: float
    propensity: float
    num: float
    total: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value from 0 to 1 and how sure it is. `error` is one standard error: asymptotic, for a look at a time fixed before."""

    value: float
    error: float
    effective: float  # the size of a sample of equal weights that would be as sure

    @property
    def interval(self) -> tuple[float, float]:
        """Where the value lies at a level of 95 %, by the normal distribution."""
        return self.value - _NORMAL * self.error, self.value + _NORMAL * self.error


class TooFew(ValueError):
    """Not enough to estimate from: the effective sample size, and what is needed."""

    def __init__(self, effective: float, needed: float) -> None:
        super().__init__(f"an effective sample of {effective:.1f}; at least {needed:g} are needed")
        self.effective, self.needed = effective, needed


def self_normalised(served: Sequence[Served], *, least: float = LEAST_EFFECTIVE) -> Estimate:
    """SNIPS (Swaminathan and Joachims, 2015): by the sum of the weights, so a value between 0 and 1. Raises: TooFew."""
    used, effective = _used(served, least)
    weight = sum(each.num / each.propensity for each in used)
    value = sum(each.total / each.propensity for each in used) / weight
    squares = sum((each.total * (1 - 2 * value) + each.num * value**2) / each.propensity**2 for each in used)
    return Estimate(value, math.sqrt(max(0.0, squares)) / weight, effective)


def mean_of(figures: Sequence[float], propensities: Sequence[float], *, least: float = LEAST_EFFECTIVE) -> Estimate:
    """SNIPS of figures from 0 to 1, one by one, each seen with its propensity. Raises: TooFew."""
    return _weighted_mean(figures, propensities, _OF_MEAN, least)


def difference_of(
    figures: Sequence[float], propensities: Sequence[float], *, least: float = LEAST_EFFECTIVE
) -> Estimate:
    """The same of differences between paired figures, from -1 to 1. Raises: TooFew."""
    return _weighted_mean(figures, propensities, _OF_DIFFERENCE, least)


def _weighted_mean(
    figures: Sequence[float], propensities: Sequence[float], added: Sequence[tuple[float, float]], least: float
) -> Estimate:
    """The value is of the figures alone; its interval holds the one with those added, which lies around their common mean."""
    weights = [1.0 / propensity for propensity in propensities]
    whole, squares = sum(weights), sum(weight**2 for weight in weights)
    effective = whole**2 / squares if squares > 0 else 0.0
    if effective < least:
        raise TooFew(effective, least)
    value = sum(weight * figure for weight, figure in zip(weights, figures, strict=True)) / whole
    mean_weight = squares / whole  # of the figures that an effective sample of equal weights would have
    total = whole + sum(num for _, num in added) * mean_weight
    centre = (value * whole + sum(figure * num for figure, num in added) * mean_weight) / total
    spread = sum(weight**2 * (figure - centre) ** 2 for weight, figure in zip(weights, figures, strict=True))
    spread += sum(num * mean_weight**2 * (figure - centre) ** 2 for figure, num in added)
    return Estimate(value, math.sqrt(spread) / total + abs(value - centre) / _NORMAL, effective)


def augmented(served: Sequence[Served], *, least: float = LEAST_EFFECTIVE) -> Estimate:
    """Adaptively weighted AIPW (Hadad et al., arXiv 1911.02768, section 3). Raises: TooFew.

    Each unit's score is m + 1{arm}/w · (r − m), with m the mean of the versions before: predictable, so scores are unbiased. They
    are weighted by √w, which keeps the variance steady while the shares move, and with it the estimate normal.
    """
    used, effective = _used(served, least)
    scores, weights = [], []
    seen = total = 0.0
    for each in used:
        model = (total + 0.5) / (seen + 1.0)
        scores.append((each, model))
        weights.append(math.sqrt(each.propensity))
        seen, total = seen + each.num, total + each.total
    whole = sum(weight * each.num_all for weight, (each, _) in zip(weights, scores, strict=True))
    value = sum(weight * _sum_of_scores(*score) for weight, score in zip(weights, scores, strict=True)) / whole
    spread = sum(weight**2 * _spread(*score, value) for weight, score in zip(weights, scores, strict=True))
    return Estimate(value, math.sqrt(max(0.0, spread)) / whole, effective)


def _sum_of_scores(each: Served, model: float) -> float:
    return each.num_all * model + (each.total - each.num * model) / each.propensity


def _spread(each: Served, model: float, value: float) -> float:
    """The sum of the squares of the scores' distances from `value`."""
    residuals = each.total - each.num * model
    squares = each.total * (1 - 2 * model) + each.num * model**2
    off = model - value
    return each.num_all * off**2 + 2 * off * residuals / each.propensity + squares / each.propensity**2


def _used(served: Sequence[Served], least: float) -> tuple[list[Served], float]:
    """The versions that served anyone and could have served the arm, and the effective sample size (Kish)."""
    used = [each for each in served if each.propensity > 0 and each.num_all > 0]
    weight = sum(each.num / each.propensity for each in used)
    squares = sum(each.num / each.propensity**2 for each in used)
    effective = weight**2 / squares if squares > 0 else 0.0
    if effective < least:
        raise TooFew(effective, least)
    return used, effective
