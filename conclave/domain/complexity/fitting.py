"""Fits what questions need to examples: ridge-penalised Poisson regression by Newton's method.

Each step solves (X'MX + P) d = X'(w(y - mu)) - P b, M = diag(w mu), mu = exp(X b): iteratively reweighted least squares, McCullagh
and Nelder, "Generalized Linear Models" (1989), section 2.5, with a Gaussian prior on all weights but the intercept.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from conclave.domain.complexity.needs import Fit, Needs, seen
from conclave.domain.complexity.outcomes import Example
from conclave.domain.routing.difficulty import Weight
from conclave.domain.routing.features import FEATURES, figures

Matrix = NDArray[np.float64]

MIN_QUESTIONS = 50  # below, its figures would say nothing
_RIDGE, _NUM_FOLDS, _NUM_STEPS, _CLOSE = 1.0, 5, 100, 1e-9
_ONE_SIDED_95 = 1.645
_LOG_MOST = 20.0  # e^20 samples: beyond all need, and finite
_ALIKE = 1e-6  # a figure that varies by less is the same everywhere, and a smaller gain is none


class NotFitted(ValueError):
    """There is nothing to be learned from these examples, and why."""


def fitted(examples: Sequence[Example], *, fitted_at: str, about: str = "") -> Needs:
    """What these examples teach, with how good it is on questions left out.

    Raises: NotFitted below `MIN_QUESTIONS` questions, and where on questions left out it is not better than their mean: where the
    mean gain in deviance over questions is not above 0 with 95 % confidence (one-sided, normal approximation).
    """
    num_questions = len({each.question for each in examples})
    if num_questions < MIN_QUESTIONS:
        raise NotFitted(f"{num_questions} questions, and {MIN_QUESTIONS} at least are needed")
    needed = np.array([max(each.needed, 1.0) for each in examples])
    weight = np.array([each.weight for each in examples])
    measured = np.array([figures(seen(each.question)) for each in examples])
    mean, deviation = measured.mean(axis=0), measured.std(axis=0)
    deviation = np.where(deviation > _ALIKE, deviation, 1.0)
    scaled = np.hstack([np.ones((len(examples), 1)), (measured - mean) / deviation])
    reached = _validated(examples, scaled, needed, weight)
    if reached.gain_at_least <= _ALIKE:
        raise NotFitted(
            f"on questions left out it is not surely better than saying {reached.mean_needed:.1f} of each: deviance "
            f"{reached.deviance:.3f} against {reached.deviance_of_mean:.3f}"
        )
    solved = _solved(scaled, needed, weight)
    rows = zip(FEATURES, mean, deviation, solved[1:], strict=True)
    return Needs(
        fitted_at=fitted_at,
        about=about,
        intercept=float(solved[0]),
        weights=tuple(
            Weight(feature=name, mean=float(m), deviation=float(d), weight=float(w)) for name, m, d, w in rows
        ),
        most=float(needed.max()),
        fit=reached,
    )


def _solved(x: Matrix, y: Matrix, weight: Matrix) -> Matrix:
    """The weights, shape (1 + num_features,), the intercept first."""
    prior = np.diag([1e-6, *[_RIDGE] * (x.shape[1] - 1)])
    solved: Matrix = np.zeros(x.shape[1])
    solved[0] = np.log(np.average(y, weights=weight))
    for _ in range(_NUM_STEPS):
        mu = _expected(x, solved)
        gradient = x.T @ (weight * (y - mu)) - prior @ solved
        step = np.linalg.solve(x.T @ (x * (weight * mu)[:, None]) + prior, gradient)
        # Newton's step may overshoot far from the optimum; a bounded one comes there all the same.
        solved = solved + step * min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < _CLOSE:
            break
    return solved


def _expected(x: Matrix, solved: Matrix) -> Matrix:
    found: Matrix = np.exp(np.clip(x @ solved, -_LOG_MOST, _LOG_MOST))
    return found


def _validated(examples: Sequence[Example], x: Matrix, y: Matrix, weight: Matrix) -> Fit:
    """Figures of estimates for questions that were left out: equal questions lie in one fold, and count as one."""
    numbers: dict[str, int] = {}
    question = np.array([numbers.setdefault(each.question, len(numbers)) for each in examples])
    fold = question % _NUM_FOLDS
    model, constant = np.empty_like(y), np.empty_like(y)
    for left_out in range(_NUM_FOLDS):
        within, out = fold != left_out, fold == left_out
        solved = _solved(x[within], y[within], weight[within])
        model[out] = np.clip(_expected(x[out], solved), 1.0, float(y[within].max()))
        constant[out] = np.average(y[within], weights=weight[within])
    of_model, of_mean = _deviance(y, model), _deviance(y, constant)
    worth = np.bincount(question, weights=weight)
    gains = np.bincount(question, weights=weight * (of_mean - of_model)) / worth
    gain = float(np.average(gains, weights=worth))
    shares = worth / worth.sum()
    error = float(np.sqrt(np.sum((shares * (gains - gain)) ** 2)))
    return Fit(
        num_examples=len(examples),
        num_questions=len(numbers),
        num_folds=_NUM_FOLDS,
        mean_needed=float(np.average(y, weights=weight)),
        deviance=float(np.average(of_model, weights=weight)),
        deviance_of_mean=float(np.average(of_mean, weights=weight)),
        gain_at_least=gain - _ONE_SIDED_95 * error,
        sources=dict(Counter(each.source for each in examples)),
    )


def _deviance(y: Matrix, mu: Matrix) -> Matrix:
    """2 (y log(y / mu) - (y - mu)), shape (num_examples,); McCullagh and Nelder, table 2.1. y is at least 1."""
    found: Matrix = 2.0 * (y * np.log(y / mu) - (y - mu))
    return found
