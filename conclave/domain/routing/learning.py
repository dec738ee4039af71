"""Learns a classifier of difficulty from examples: ridge-penalised logistic regression by Newton's method.

Each step solves (X'RX + P) d = X'(w(y - p)) - P b, R = diag(w p (1 - p)): iteratively reweighted least squares, Bishop,
"Pattern Recognition and Machine Learning" (2006), eq. 4.97 to 4.100, with a Gaussian prior on all weights but the intercept.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from conclave.domain.routing.difficulty import Classifier, Figures, Weight
from conclave.domain.routing.examples import Example
from conclave.domain.routing.features import FEATURES, Seen, figures

Matrix = NDArray[np.float64]

MIN_EXAMPLES = 50  # below, its figures would say nothing
_RIDGE, _NUM_FOLDS, _NUM_STEPS, _CLOSE = 1.0, 5, 50, 1e-9
_CERTAIN = 1e-6  # no probability is taken to be nearer to 0 or 1: a loss stays finite


class TooFew(ValueError):
    """There is not enough to learn from."""


def learned(examples: Sequence[Example], *, trained_at: str, about: str = "") -> Classifier:
    """The classifier of these examples, with figures from `_NUM_FOLDS`-fold cross-validation over distinct questions.

    Raises: TooFew below `MIN_EXAMPLES`, and when all direct answers were right or all wrong.
    """
    if len(examples) < MIN_EXAMPLES:
        raise TooFew(f"{len(examples)} examples, and {MIN_EXAMPLES} at least are needed")
    wrong = np.array([each.wrong for each in examples])
    weight = np.array([each.weight for each in examples])
    if not 0.0 < float(np.average(wrong, weights=weight)) < 1.0 or not (wrong.min() < 0.5 <= wrong.max()):
        raise TooFew("examples of both kinds are needed: direct answers that were right, and some that were wrong")
    measured = np.array([figures(Seen(each.question)) for each in examples])
    mean, deviation = measured.mean(axis=0), measured.std(axis=0)
    # A figure that is the same everywhere tells nothing; 1 keeps it finite where a later question differs.
    deviation = np.where(deviation > _CERTAIN, deviation, 1.0)
    scaled = np.hstack([np.ones((len(examples), 1)), (measured - mean) / deviation])
    solved = _fitted(scaled, wrong, weight)
    rows = zip(FEATURES, mean, deviation, solved[1:], strict=True)
    return Classifier(
        trained_at=trained_at,
        about=about,
        intercept=float(solved[0]),
        weights=tuple(
            Weight(feature=name, mean=float(m), deviation=float(d), weight=float(w)) for name, m, d, w in rows
        ),
        figures=_validated(examples, scaled, wrong, weight),
    )


def _fitted(x: Matrix, y: Matrix, weight: Matrix) -> Matrix:
    """The weights, shape (1 + num_features,), the intercept first."""
    prior = np.diag([1e-6, *[_RIDGE] * (x.shape[1] - 1)])
    solved: Matrix = np.zeros(x.shape[1])
    for _ in range(_NUM_STEPS):
        p = _probabilities(x, solved)
        gradient = x.T @ (weight * (y - p)) - prior @ solved
        step = np.linalg.solve(x.T @ (x * (weight * p * (1.0 - p))[:, None]) + prior, gradient)
        # Newton's step may overshoot far from the optimum; a bounded one comes there all the same.
        solved = solved + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < _CLOSE:
            break
    return solved


def _probabilities(x: Matrix, solved: Matrix) -> Matrix:
    found: Matrix = 1.0 / (1.0 + np.exp(-np.clip(x @ solved, -500.0, 500.0)))
    return found


def _validated(examples: Sequence[Example], x: Matrix, y: Matrix, weight: Matrix) -> Figures:
    """Figures of predictions for questions that were left out: equal questions lie in one fold."""
    distinct = {question: index for index, question in enumerate(dict.fromkeys(each.question for each in examples))}
    fold = np.array([distinct[each.question] % _NUM_FOLDS for each in examples])
    share = float(np.average(y, weights=weight))
    p = np.full_like(y, share)  # of what no fold can predict
    for left_out in range(_NUM_FOLDS):
        within = fold != left_out
        if within.any() and (~within).any():
            p[~within] = _probabilities(x[~within], _fitted(x[within], y[within], weight[within]))
    return Figures(
        num_examples=len(examples),
        num_folds=_NUM_FOLDS,
        share_wrong=share,
        accuracy=float(np.average((p >= 0.5) == (y >= 0.5), weights=weight)),
        auc=area_under_curve(p, y >= 0.5),
        log_loss=_log_loss(p, y, weight),
        log_loss_of_share=_log_loss(np.full_like(y, share), y, weight),
        sources=dict(Counter(each.source for each in examples)),
    )


def area_under_curve(scores: Matrix, is_positive: NDArray[np.bool_]) -> float:
    """The probability that a positive scores above a negative, ties half: Mann and Whitney (1947). 0.5 without both."""
    num_positive, num_negative = int(is_positive.sum()), int((~is_positive).sum())
    if not num_positive or not num_negative:
        return 0.5
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[place]
    above = float(ranks[is_positive].sum()) - num_positive * (num_positive + 1) / 2.0
    return above / (num_positive * num_negative)


def _log_loss(p: Matrix, y: Matrix, weight: Matrix) -> float:
    p = np.clip(p, _CERTAIN, 1.0 - _CERTAIN)
    loss = float(np.average(-(y * np.log(p) + (1.0 - y) * np.log(1.0 - p)), weights=weight))
    assert math.isfinite(loss)
    return loss
