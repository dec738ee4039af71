"""Whether learned weights may be used: votes that they were not learned from are counted again with both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from msgspec.structs import replace

from conclave.domain import counting
from conclave.domain.vote_learning.calibrating import Fit, fit_of, fit_of_table, fitted
from conclave.domain.vote_learning.labels import JudgedVote, LabelledPath, correlation, discounted, halves, paths_of
from conclave.domain.vote_learning.weights import vote_weights
from schemas.values import Ask, StopReason

LEAST_JUDGED = 30  # votes to learn from, and as many to judge by


@dataclass(frozen=True, slots=True)
class Learned:
    """Weights that were learned, what they rest on, and what judging them came to. `refused` says why they may not be used."""

    ask: Ask
    num_learned: int
    num_judged: int
    correlation: float
    before: Fit  # of the average probability, on the votes judged by
    after: Fit  # of the learned table
    gained: int  # votes judged by that were wrong and are right
    lost: int  # … that were right and are wrong
    told_before: (
        Fit  # of the confidence of answers, on votes judged by where it is known whether either answer is right
    )
    told_after: Fit  # … as it is calibrated to what was learned
    refused: str | None


def learned(ask: Ask, votes: Sequence[JudgedVote]) -> Learned:
    """The ask with learned weights of votes and confidence, and whether they do no worse on votes that they have not seen."""
    known = [vote for vote in votes if vote.is_right is not None]
    to_learn, to_judge = halves(known)
    groups = paths_of(to_learn)
    paths, unseen = discounted(groups), discounted(paths_of(to_judge))
    table = fitted(paths)
    weights = vote_weights(table, _num_answers(to_learn))
    weighed = replace(ask, weighing="learned", vote_weights=weights, calibration=())
    after_ask = replace(weighed, calibration=fitted(_confidences(to_learn, weighed)))
    average = _average(paths)
    before, after = fit_of(unseen, lambda score: average), fit_of_table(unseen, table)
    gained, lost = replayed(to_judge, ask, after_ask)
    told = _told(to_judge, ask, after_ask)
    found = Learned(
        ask=after_ask,
        num_learned=len(to_learn),
        num_judged=len(to_judge),
        correlation=correlation(groups),
        before=before,
        after=after,
        gained=gained,
        lost=lost,
        told_before=fit_of_table([old for old, _ in told], ()),
        told_after=fit_of_table([new for _, new in told], ()),
        refused=None,
    )
    return _judged(found, is_flat=len(set(weights)) < 2, is_told_worse=_is_told_worse(told))


def _confidences(votes: Sequence[JudgedVote], ask: Ask) -> list[LabelledPath]:
    """How sure each vote is when counted by `ask`, and whether its answer then is right; without those of which that is not known.

    Not as sure as it was said to be: that is after the calibration that there was, and by the weights that there were.
    """
    found = []
    for vote in votes:
        counted = counting.count(vote.ballots, ask, reason=StopReason.EXHAUSTED)
        is_right = vote.says_right(counted.result.answer)
        if counted.result.answer is not None and is_right is not None:
            found.append(LabelledPath(counted.confidence, is_right))
    return found


def _told(votes: Sequence[JudgedVote], before: Ask, after: Ask) -> list[tuple[LabelledPath, LabelledPath]]:
    """The confidence of each vote's answer when counted by either, and whether that answer is right, where both are known."""
    pairs = ((_confidences([vote], before), _confidences([vote], after)) for vote in votes)
    return [(old[0], new[0]) for old, new in pairs if old and new]


def _is_told_worse(told: Sequence[tuple[LabelledPath, LabelledPath]]) -> bool:
    """True where the new confidences have a larger log loss than the old ones, by more than two standard errors."""
    if len(told) < LEAST_JUDGED:
        return False
    losses = [[fit_of_table([each], ()).log_loss for each in pair] for pair in told]
    more = [new - old for old, new in losses]
    return fmean(more) > 2 * stdev(more) / math.sqrt(len(more))


def replayed(votes: Sequence[JudgedVote], before: Ask, after: Ask) -> tuple[int, int]:
    """How many votes were wrong and are right when counted by `after`, and how many the other way round.

    The same paths are counted: that other weights would have stopped the sampling elsewhere is left out. A vote whose new
    answer nobody judged counts as neither.
    """
    gained = lost = 0
    for vote in votes:
        old, new = (vote.says_right(_answer(vote, ask)) for ask in (before, after))
        gained += old is False and new is True
        lost += old is True and new is False
    return gained, lost


def _answer(vote: JudgedVote, ask: Ask) -> str | None:
    return counting.count(vote.ballots, ask, reason=StopReason.EXHAUSTED).result.answer


def _judged(found: Learned, *, is_flat: bool, is_told_worse: bool) -> Learned:
    refused = None
    if min(found.num_learned, found.num_judged) < LEAST_JUDGED:
        refused = f"too few judged votes: {found.num_learned} to learn from and {found.num_judged} to judge by"
    elif is_flat:
        refused = "paths say nothing of themselves that tells right from wrong"
    elif found.after.log_loss > found.before.log_loss:
        refused = f"log loss {found.after.log_loss:.4f} is more than the {found.before.log_loss:.4f} of knowing nothing"
    elif found.lost > found.gained:
        refused = f"{found.lost} votes would be lost and {found.gained} gained"
    elif is_told_worse:
        old, new = found.told_before.log_loss, found.told_after.log_loss
        refused = f"the confidence of answers would be off by more: log loss {new:.4f}, and now {old:.4f}"
    return Learned(**{name: getattr(found, name) for name in found.__slots__} | {"refused": refused})


def _num_answers(votes: Sequence[JudgedVote]) -> float:
    """How many different answers a vote has on average."""
    numbers = [len({ballot.answer for ballot in vote.ballots if ballot.answer}) for vote in votes]
    return sum(numbers) / len(numbers) if numbers else 2.0


def _average(paths: Sequence[LabelledPath]) -> float:
    whole = sum(path.weight for path in paths)
    return sum(path.weight * path.is_right for path in paths) / whole if whole else 0.5
