"""How much evidence a path's own figures are that its answer is right, fitted to recordings whose right answers are known. Pure.

A conditional logit (McFadden 1974) over the answers of a prefix and "none of these": the log odds of an answer are the sum over its
paths of exp(log_weight + Σ coefficient · figure), and those of "none" are `unseen_nats`. What comes out are parameters of weighing
`log_linear` and stopping rule `log_odds`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conclave.domain.equivalence import EQUIVALENCES
from conclave.domain.log_linear import FIGURES
from conclave.domain.replay import Recording

PREFIXES = (1, 2, 3, 4, 5, 6, 8)  # samples after which an answer is judged: where sampling mostly ends
_TURNS = 4  # of each question's samples, so that not the same ones are always first
_MAX_EXPONENT = 8.0
_NATS_PER_VOTE = 5.0  # the most that one path counts for

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PathEvidence:
    """What was fitted, as parameters of an ask, and how well: mean log loss in nats over prefixes, and of votes all alike."""

    params: Mapping[str, float]
    log_loss: float
    log_loss_of_counts: float
    num_questions: int


@dataclass(frozen=True, slots=True)
class _Prefixes:
    """The first samples of each question, several times in turned order: (questions, samples) and what is derived of them."""

    figures: Floats  # (questions, samples, 1 + figures), of which the first is 1
    is_same: Floats  # (questions, samples, samples): 1 where two gave the same answer
    is_first: Bools  # the first with its answer
    is_right: Bools


def fitted(recordings: Sequence[Recording], equivalence: str = "short_answer") -> PathEvidence:
    """The parameters under which the right answers are likeliest, by maximum likelihood.

    Recordings without a right answer, with fewer samples than the longest prefix, or with a path that lacks a figure tell nothing
    and are left out. Raises: ValueError when none is left.
    """
    known = [each for each in recordings if each.gold is not None and _is_whole(each)]
    if not known:
        raise ValueError("no recording has a right answer and all figures of enough samples")
    prefixes = _prefixes(known, equivalence)
    scale = np.maximum(prefixes.figures.std(axis=(0, 1)), 1e-9)
    scale[0] = 1.0
    found, log_loss = _minimum(prefixes, prefixes.figures / scale)
    plain, of_counts = _minimum(prefixes, prefixes.figures[:, :, :1])
    log_weight, *coefficients = (float(each) for each in found[:-1] / scale)
    params = {
        "log_weight": log_weight - float(np.log(_NATS_PER_VOTE)),
        **dict(zip(FIGURES, coefficients, strict=True)),
        "unsaid_weight": float(np.exp(plain[0])) / _NATS_PER_VOTE,
        "nats_per_vote": _NATS_PER_VOTE,
        "unseen_nats": float(found[-1]),
    }
    return PathEvidence(params, log_loss, of_counts, len(known))


def _is_whole(recording: Recording) -> bool:
    first = recording.ballots
    return len(first) >= max(PREFIXES) and all(
        figure(each) is not None for each in first for figure in FIGURES.values()
    )


def _prefixes(recordings: Sequence[Recording], equivalence: str) -> _Prefixes:
    length, figures, labels, is_right = max(PREFIXES), [], [], []
    for each in recordings:
        *said, right = EQUIVALENCES[equivalence]([*(ballot.answer or "" for ballot in each.ballots), each.gold or ""])
        rows = [[1.0, *(figure(ballot) or 0.0 for figure in FIGURES.values())] for ballot in each.ballots]
        for turn in range(_TURNS):
            chosen = [(turn * len(said) // _TURNS + at) % len(said) for at in range(length)]
            figures.append([rows[at] for at in chosen])
            labels.append([said[at] for at in chosen])
            is_right.append([said[at] == right != "" for at in chosen])
    names = np.array(labels)
    is_same = (names[:, :, None] == names[:, None, :]) & (names != "")[:, :, None]
    is_first = (names != "") & ~np.tril(is_same, -1).any(axis=2)
    return _Prefixes(np.array(figures), is_same.astype(np.float64), is_first, np.array(is_right))


def _minimum(prefixes: _Prefixes, figures: Floats) -> tuple[Floats, float]:
    """Coefficients of the figures and, last, the log odds of what was not seen; and the mean log loss."""
    from scipy.optimize import minimize

    start = np.zeros(figures.shape[2] + 1)
    found: Any = minimize(lambda point: _log_loss(point, prefixes, figures), start, jac=True, method="L-BFGS-B")
    return found.x, float(found.fun)


def _log_loss(point: Floats, prefixes: _Prefixes, figures: Floats) -> tuple[float, Floats]:
    """The mean log loss over questions and prefixes, and its gradient."""
    exponents = figures @ point[:-1]
    evidence = np.exp(np.minimum(exponents, _MAX_EXPONENT))
    slope = np.where(exponents < _MAX_EXPONENT, evidence, 0.0)
    loss, gradient, num = 0.0, np.zeros_like(point), len(figures)
    for length in PREFIXES:
        is_same, is_first = prefixes.is_same[:, :length, :length], prefixes.is_first[:, :length]
        odds = np.einsum("qij,qj->qi", is_same, evidence[:, :length])
        odds = np.column_stack([np.where(is_first, odds, -np.inf), np.full(num, point[-1])])
        likely = np.exp(odds - odds.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        hits = is_first & prefixes.is_right[:, :length]
        truth = np.column_stack([hits, ~hits.any(axis=1)]).astype(np.float64)
        loss -= float(np.log(np.maximum((likely * truth).sum(axis=1), 1e-300)).mean())
        off = likely - truth  # the gradient by log odds
        by_path = np.einsum("qi,qij->qj", off[:, :-1], is_same) * slope[:, :length]
        gradient[:-1] += np.einsum("qj,qjf->f", by_path, figures[:, :length]) / num
        gradient[-1] += float(off[:, -1].mean())
    return loss / len(PREFIXES), gradient / len(PREFIXES)
