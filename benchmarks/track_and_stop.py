"""Track-and-Stop for Bernoulli arms (Garivier and Kaufmann, arXiv 1602.04589): what experiments are compared with."""

import math
from collections.abc import Mapping

_STEPS = 40


def optimal_shares(means: Mapping[str, float]) -> dict[str, float]:
    """The shares that find the best of arms with these means soonest: section 2.2, theorem 5, by bisection twice."""
    arms = sorted(means)
    clipped = {arm: min(0.999, max(0.001, means[arm])) for arm in arms}
    best = max(arms, key=lambda arm: clipped[arm])
    others = [arm for arm in arms if arm != best]
    if any(clipped[best] - clipped[arm] < 1e-6 for arm in others):
        return {arm: 1 / len(arms) for arm in arms}
    top = min(_divergence(clipped[best], clipped[arm]) for arm in others)
    lower, upper = 0.0, top
    for _ in range(_STEPS):
        middle = (lower + upper) / 2
        if _balance(clipped, best, others, middle) > 1:
            upper = middle
        else:
            lower = middle
    ratios = {arm: _ratio(clipped[best], clipped[arm], lower) for arm in others} | {best: 1.0}
    whole = sum(ratios.values())
    return {arm: ratio / whole for arm, ratio in ratios.items()}


def nats_a_unit(means: Mapping[str, float], shares: Mapping[str, float]) -> float:
    """How fast evidence for the best arm grows at these shares, against the rival that is hardest to tell from it (theorem 1).

    No rule finds the best arm at a risk δ in fewer units, on average, than log(1/δ) divided by the most that any shares give.
    """
    best = max(sorted(means), key=lambda arm: means[arm])
    others = [arm for arm in means if arm != best]
    return min(shares[best] * _worth(means[best], means[arm], shares[arm] / shares[best]) for arm in others)


def least_of_uniform(means: Mapping[str, float]) -> float:
    """The share of the units of equal shares without which no rule, however clever, finds the best arm as surely."""
    equal = dict.fromkeys(means, 1 / len(means))
    return nats_a_unit(means, equal) / nats_a_unit(means, optimal_shares(means))


def _balance(means: Mapping[str, float], best: str, others: list[str], level: float) -> float:
    total = 0.0
    for arm in others:
        mean = _between(means[best], means[arm], _ratio(means[best], means[arm], level))
        total += _divergence(means[best], mean) / max(1e-300, _divergence(means[arm], mean))
    return total


def _ratio(best: float, other: float, level: float) -> float:
    """How often the other arm is served for each time the best one is, so that telling them apart is worth `level`."""
    lower, upper = 0.0, 1.0
    while _worth(best, other, upper) < level and upper < 1e9:
        upper *= 2
    for _ in range(_STEPS):
        middle = (lower + upper) / 2
        if _worth(best, other, middle) < level:
            lower = middle
        else:
            upper = middle
    return upper


def _worth(best: float, other: float, ratio: float) -> float:
    mean = _between(best, other, ratio)
    return _divergence(best, mean) + ratio * _divergence(other, mean)


def _between(best: float, other: float, ratio: float) -> float:
    return (best + ratio * other) / (1 + ratio)


def _divergence(p: float, q: float) -> float:
    """Of Bernoulli distributions, in nats."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
