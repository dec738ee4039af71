"""What serving one arm to everyone would be worth, from what an experiment served whose shares moved.

Data come by version of the weights: within one, the propensities are constant, so sums say all there is to say. Outcomes lie
between 0 and 1, so their squares add up to no more than they do: variances are those of Bernoulli outcomes, or too large.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_EFFECTIVE = 30.0  # below it, a weighted mean is a few units' word


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


class TooFew(ValueError):
    """Not enough to estimate from: the effective sample size, and what is needed."""

    def __init__(self, effective: float, needed: float) -> None:
        super().__init__(f"an effective sample of {effective:.1f}; at least {needed:g} are needed")
        self.effective, self.needed = effective, needed


def inverse_propensity(served: Sequence[Served], *, least: float = LEAST_EFFECTIVE) -> Estimate:
    """Horvitz and Thompson's estimate (IPS): unbiased, and the more uncertain the smaller the shares. Raises: TooFew."""
    used, effective = _used(served, least)
    num = sum(each.num_all for each in used)
    value = sum(each.total / each.propensity for each in used) / num
    squares = sum(each.total / each.propensity**2 for each in used)
    return Estimate(value, math.sqrt(max(0.0, squares / num - value**2) / num), effective)


def self_normalised(served: Sequence[Served], *, least: float = LEAST_EFFECTIVE) -> Estimate:
    """SNIPS (Swaminathan and Joachims, 2015): by the sum of the weights, so a value between 0 and 1. Raises: TooFew."""
    used, effective = _used(served, least)
    weight = sum(each.num / each.propensity for each in used)
    value = sum(each.total / each.propensity for each in used) / weight
    squares = sum((each.total * (1 - 2 * value) + each.num * value**2) / each.propensity**2 for each in used)
    return Estimate(value, math.sqrt(max(0.0, squares)) / weight, effective)


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
