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
