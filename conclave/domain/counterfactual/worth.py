"""What other answers are worth, by what was said of those that were given.

A right answer that somebody told says it of any answer. A reward says it of the answer that was given only: of two different ones
at most one is right, so the other is worth at most what is left to 1, and nothing more is known of it. So what other answers are
worth lies between two figures (bounds of Manski's kind), each with its own error. Requests weigh by how rarely they are served as
they were (SNIPS), so that those of an experiment's small arms, where only these can be thought about again, stand for all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from conclave.domain.counterfactual.again import Replayed
from conclave.domain.equivalence import are_same
from conclave.domain.statistics.estimating import Estimate, difference_of, mean_of


@dataclass(frozen=True, slots=True)
class Worth:
    """The mean worth of answers, from 0 to 1: of those that were served, and at least and at most of the others.

    `gained` and `lost` are how many are better and worse for certain; of `num_open` changed ones neither is known.
    """

    num_judged: int
    gained: int
    lost: int
    num_open: int
    served: Estimate
    least: Estimate
    most: Estimate
    least_change: Estimate
    most_change: Estimate


def worth(replays: Iterable[Replayed]) -> Worth:
    """What the answers of requests would be worth that were judged and whose answer is known. Raises: TooFew."""
    known = [(each.request, judged) for each in replays if (judged := _judged(each)) is not None]
    propensities = [request.propensity for request, _ in known]
    served, least, most = ([figures[place] for _, figures in known] for place in range(3))
    low, high = _differences(least, served), _differences(most, served)
    gained, lost = sum(each > 0 for each in low), sum(each < 0 for each in high)
    return Worth(
        num_judged=len(known),
        gained=gained,
        lost=lost,
        num_open=sum(first <= 0 <= last and first != last for first, last in zip(low, high, strict=True)),
        served=mean_of(served, propensities),
        least=mean_of(least, propensities),
        most=mean_of(most, propensities),
        least_change=difference_of(low, propensities),
        most_change=difference_of(high, propensities),
    )


def _differences(figures: Sequence[float], served: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(figures, served, strict=True)]


def _judged(replay: Replayed) -> tuple[float, float, float] | None:
    """The worth of the answer that was given, and of the other one at least and at most; None where nobody said or knows."""
    request = replay.request
    if replay.unknown is not None or request.answer is None:
        return None
    if request.right_answer is not None:
        right = float(replay.answer is not None and are_same(replay.answer, request.right_answer))
        return float(are_same(request.answer, request.right_answer)), right, right
    if request.reward is None:
        return None
    if replay.is_same:
        return (request.reward,) * 3
    return request.reward, 0.0, 0.0 if replay.answer is None else 1.0 - request.reward
