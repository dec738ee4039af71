"""What is believed of arms: a discounted Beta distribution each, and how probably each is the best."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from conclave.domain.experiments.evidence import Evidence, key_of, known
from schemas.experiments import Experiment

Belief = tuple[float, float]  # alpha, beta
if (
    TYPE_CHECKING
):  # numpy and scipy take seconds to import: whoever needs no quadrature, such as a page, need not wait for them
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_PRIOR = 1.0
_LEAST = 2.0**-53  # the ends themselves, where a logarithm is infinite, are rounded to
_NODES = 16  # of Gauss-Legendre, in each piece
# Pieces end at these quantiles of every arm: where any density or distribution bends, there are many nodes.
_LEVELS = (1e-12, 1e-9, 1e-6, 1e-4, 1e-2, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1 - 1e-4, 1 - 1e-6, 1 - 1e-9, 1 - 1e-12)


def belief(experiment: Experiment, evidence: Evidence, arm: str) -> Belief:
    """The Beta distribution of an arm's mean: 1 + what spoke for it, 1 + what against, each period discounted.

    Discounted Thompson sampling (Raj and Kalyani, arXiv 1707.09727), but by time and not by turns: an arm that is served
    more often doesn't forget faster. Units that have said nothing yet say nothing here.
    """
    goal, key = experiment.goal, key_of(experiment.goal)
    per_period: dict[int, tuple[float, float]] = {}
    for cell in sorted(evidence.cells):
        if (cell.metric, cell.arm) == (key, arm):
            num, total = known(goal, cell.counts)
            before = per_period.get(cell.period, (0.0, 0.0))
            per_period[cell.period] = (before[0] + num, before[1] + total)
    num = total = 0.0
    last = min(per_period, default=0)
    for period in [*sorted(per_period), int(evidence.as_of_ms // (experiment.period_s * 1000))]:
        kept = _power(experiment.discount, period - last)
        added_num, added_total = per_period.pop(period, (0.0, 0.0))
        num, total, last = num * kept + added_num, total * kept + added_total, period
    return _PRIOR + total, _PRIOR + max(0.0, num - total)


def _power(base: float, exponent: int) -> float:
    """`base` to a whole power by multiplication alone: the machine's own power function differs by machine."""
    result, square = 1.0, base
    while exponent > 0:
        if exponent & 1:
            result *= square
        square, exponent = square * square, exponent >> 1
    return result


def probabilities_of_best(beliefs: Mapping[str, Belief]) -> dict[str, float]:
    """For each arm, that its mean is the largest of all: ∫ fᵢ(x) ∏ⱼ Fⱼ(x) dx by Gauss-Legendre quadrature, piece by piece.

    They add up to 1. No random numbers: who computes it again gets the same.
    """
    import numpy as np
    from scipy.special import betainc

    names = sorted(beliefs)
    if len(names) == 1:
        return {names[0]: 1.0}
    alphas, betas = (np.array([beliefs[name][side] for name in names]) for side in (0, 1))
    points, weights = _quadrature(alphas, betas)
    densities = np.exp(_log_density(alphas, betas, points))
    below = betainc(alphas[:, None], betas[:, None], points)
    found = {}
    for place, name in enumerate(names):
        others = np.prod(np.delete(below, place, axis=0), axis=0)
        found[name] = float(np.sum(weights * densities[place] * others))
    whole = sum(found.values())
    return {name: value / whole for name, value in found.items()}


def _quadrature(alphas: "Floats", betas: "Floats") -> "tuple[Floats, Floats]":
    """Points and weights over 0 … 1, shape (num_pieces · 16,) each."""
    import numpy as np
    from scipy.special import betaincinv

    quantiles = betaincinv(alphas[:, None], betas[:, None], np.array(_LEVELS))
    edges = np.unique(np.concatenate([[0.0], quantiles.ravel(), [1.0]]))
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    nodes, weights = _gauss_legendre()
    points = np.clip((middle[:, None] + half[:, None] * nodes).ravel(), _LEAST, 1.0 - _LEAST)
    return points, (half[:, None] * weights).ravel()


@cache
def _gauss_legendre() -> "tuple[Floats, Floats]":
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights


def _log_density(alphas: "Floats", betas: "Floats", points: "Floats") -> "Floats":
    import numpy as np
    from scipy.special import betaln

    a, b = alphas[:, None] - 1, betas[:, None] - 1
    density: Floats = a * np.log(points) + b * np.log1p(-points) - betaln(a + 1, b + 1)
    return density
