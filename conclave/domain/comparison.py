"""Ways of voting compared on the same recordings: figures, and how sure they are by a paired bootstrap.

Questions are drawn with replacement within each set (Efron & Tibshirani 1993, chapter 8), always with what every way came to on
them, so that what is hard for all cancels out. Over several sets each counts alike, however many questions it has.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from conclave.domain.replay import Recording, full_vote, play, same
from schemas.values import Ask

NUM_DRAWS = 2_000
_LEVEL = 0.95

Figures = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, and the interval that holds it with 95 % confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a way of voting came to on one set: a figure for each question, and one for each question of the full vote.

    `right` and `full_right` are NaN where the right answer is not known.
    """

    right: Figures
    full_right: Figures
    agrees: Figures  # with the full vote
    counted: Figures
    launched: Figures
    tokens: Figures
    full_tokens: Figures
    latency: Figures
    cut_short: Figures


@dataclass(frozen=True, slots=True)
class Summary:
    """A way of voting over several sets, each counting alike. Accuracies and shares are 0 to 1; None where nobody knows."""

    accuracy: float | None
    change: Interval | None  # of accuracy, against the full vote
    worst_change: float | None  # in the set where it does worst
    samples: Interval
    launched: float
    token_share: Interval  # of the full vote's
    latency: Interval  # ticks
    agreement: float
    num_cut_short: int


def outcomes(recordings: Sequence[Recording], ask: Ask, num_orders: int = 0) -> Outcomes:
    """What an ask's rules come to on a set of recordings, played in recorded order or, on average, in so many random ones.

    The same orders are drawn for every ask, so that ways of voting stay paired.
    """
    rows = [_row(each, ask) if not num_orders else _mean_row(each, ask, num_orders) for each in recordings]
    return Outcomes(*np.array(rows, dtype=np.float64).T)


def summary(sets: Sequence[Outcomes], seed: int = 0) -> Summary:
    """The figures of a way of voting over sets that are not empty. The same seed draws the same questions for any way."""
    changes = [float(_mean(each.right - each.full_right)) for each in sets]
    is_known = all(np.isfinite(changes))
    return Summary(
        accuracy=float(np.mean([_mean(each.right) for each in sets])) if is_known else None,
        change=interval(sets, lambda of: of.right - of.full_right, seed=seed) if is_known else None,
        worst_change=min(changes) if is_known else None,
        samples=interval(sets, lambda of: of.counted, seed=seed),
        launched=float(np.mean([each.launched.mean() for each in sets])),
        token_share=interval(sets, lambda of: of.tokens, lambda of: of.full_tokens, seed=seed),
        latency=interval(sets, lambda of: of.latency, seed=seed),
        agreement=float(np.mean([each.agrees.mean() for each in sets])),
        num_cut_short=int(sum(each.cut_short.sum() for each in sets)),
    )


def interval(
    sets: Sequence[Outcomes],
    figure: Callable[[Outcomes], Figures],
    over: Callable[[Outcomes], Figures] | None = None,
    *,
    seed: int,
) -> Interval:
    """The mean of a figure over sets, or of its sum over that of another; questions without a figure are passed over."""
    rng = np.random.default_rng(seed)
    value, drawn = 0.0, np.zeros(NUM_DRAWS)
    for each in sets:
        above = figure(each)
        below = over(each) if over is not None else np.ones_like(above)
        is_there = np.isfinite(above)
        above, below = above[is_there], below[is_there]
        choice = rng.integers(0, len(above), size=(NUM_DRAWS, len(above)))
        value += float(_ratio(above.sum(), below.sum())) / len(sets)
        drawn += _ratio(above[choice].sum(axis=1), below[choice].sum(axis=1)) / len(sets)
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _mean_row(recording: Recording, ask: Ask, num_orders: int) -> tuple[float, ...]:
    rows = []
    for number in range(num_orders):
        order = np.random.default_rng([number, zlib.crc32(recording.id.encode())]).permutation(len(recording.ballots))
        ballots = (replace(recording.ballots[at], sample_index=place) for place, at in enumerate(order))
        rows.append(_row(Recording(recording.id, recording.gold, tuple(ballots)), ask))
    return tuple(np.mean(rows, axis=0))


def _row(recording: Recording, ask: Ask) -> tuple[float, ...]:
    played, full = play(recording, ask), full_vote(recording, ask)
    agrees = played.answer == full or (
        played.answer is not None and full is not None and same(played.answer, full, ask)
    )
    full_right = full is not None and recording.gold is not None and same(full, recording.gold, ask)
    is_right = played.is_right(recording, ask)
    return (
        np.nan if is_right is None else float(is_right),
        np.nan if is_right is None else float(full_right),
        float(agrees),
        float(played.num_counted),
        float(played.num_launched),
        float(played.tokens),
        float(sum(each.tokens_out for each in recording.ballots)),
        float(played.latency),
        float(played.is_cut_short),
    )


def _mean(figures: Figures) -> float:
    known = figures[np.isfinite(figures)]
    return float(known.mean()) if len(known) else float("nan")


def _ratio(above: Figures, below: Figures) -> Figures:
    return np.divide(above, below, out=np.zeros_like(above, dtype=np.float64), where=below > 0)
