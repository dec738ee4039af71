"""What a figure turned out to be worth: a table of probabilities at even distances over 0 … 1, and how good a table is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from conclave.domain.calibration import calibrated
from conclave.domain.vote_learning.labels import LabelledPath

NUM_POINTS = 21
_PSEUDO = 5.0  # so many paths of the average kind are added at each point: thin evidence says what all of it says
_UNSEEN = 1e-3
_BINS = 10
_LEAST = 1e-4  # no path is ever surer than this to be right or wrong


def fitted(paths: Sequence[LabelledPath]) -> tuple[float, ...]:
    """The probability of being right at each point: isotonic regression, drawn to the average where evidence is thin.

    Pool adjacent violators (Zadrozny and Elkan, 2002), of equal scores together, as their order among each other says nothing;
    () for no paths.
    """
    if not paths:
        return ()
    scores, place_of = np.unique([path.score for path in paths], return_inverse=True)
    weight_of, is_right = (np.array([getattr(path, name) for path in paths], float) for name in ("weight", "is_right"))
    weights = np.bincount(place_of, weight_of)
    found = isotonic_regression(np.bincount(place_of, weight_of * is_right) / weights, weights=weights).x
    average = float(np.average(is_right, weights=weight_of))
    places = np.linspace(0, 1, NUM_POINTS)
    near = weights * np.maximum(0.0, 1 - np.abs(scores - places[:, None]) * (NUM_POINTS - 1))  # (points, scores)
    nums = near.sum(axis=1)
    points = (near @ found + _PSEUDO * average) / (nums + _PSEUDO)
    rising = isotonic_regression(points, weights=nums + _UNSEEN).x  # a point that nothing is near to gives way
    return tuple(float(point) for point in np.clip(rising, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Fit:
    """How good probabilities are: expected calibration error in ten bins, Brier score, log loss. Less is better."""

    ece: float
    brier: float
    log_loss: float


def fit_of(paths: Sequence[LabelledPath], probability: Callable[[float], float]) -> Fit:
    """How good `probability`, of a score, is for these paths."""
    if not paths:
        return Fit(0.0, 0.0, 0.0)
    bins: list[list[tuple[float, bool, float]]] = [[] for _ in range(_BINS)]
    brier = log_loss = whole = 0.0
    for path in paths:
        sure = min(1 - _LEAST, max(_LEAST, probability(path.score)))
        brier += path.weight * (sure - path.is_right) ** 2
        log_loss -= path.weight * math.log(sure if path.is_right else 1 - sure)
        whole += path.weight
        bins[min(_BINS - 1, int(sure * _BINS))].append((sure, path.is_right, path.weight))
    off = sum(abs(sum(weight * (sure - is_right) for sure, is_right, weight in each)) for each in bins)
    return Fit(off / whole, brier / whole, log_loss / whole)


def fit_of_table(paths: Sequence[LabelledPath], table: Sequence[float]) -> Fit:
    """How good a table is for these paths."""
    return fit_of(paths, lambda score: calibrated(score, table))
