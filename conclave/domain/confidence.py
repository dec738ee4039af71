"""How sure a verdict is: `CONFIDENCES`, a function a way, and how a figure is recalibrated.

A way reads what the vote came to and the ballots that were counted, in launch order; there is a winner. It gives 0 to 1.
"""

import math
from collections.abc import Callable, Iterator, Sequence

from conclave.domain.stopping import leader_confidence, log_odds
from conclave.domain.voting import VoteResult
from schemas.values import Ask, Ballot


def lead(result: VoteResult, ballots: Sequence[Ballot], ask: Ask) -> float:
    """That the winner would stay ahead of the strongest other answer, as Adaptive-Consistency has it (arXiv 2305.11860)."""
    votes = [0] * len(result.tally)
    for ballot, row in zip(ballots, result.rows, strict=True):
        if row is not None and ballot.weight > 0:
            votes[row] += 1
    return leader_confidence(votes[0], max(votes[1:], default=0))


def share(result: VoteResult, ballots: Sequence[Ballot], ask: Ask) -> float:
    """The winner's share of all weight."""
    return result.agreement


def stated(result: VoteResult, ballots: Sequence[Ballot], ask: Ask) -> float:
    """The mean probability that the winner's paths state; 0 when none states any."""
    return _mean([each.probability for each in _winners(result, ballots) if each.probability is not None])


def likelihood(result: VoteResult, ballots: Sequence[Ballot], ask: Ask) -> float:
    """The mean, over the winner's paths, of the geometric mean probability of their tokens; 0 when the engine reports none."""
    return _mean([math.exp(each.mean_logprob) for each in _winners(result, ballots) if each.mean_logprob is not None])


def odds(result: VoteResult, ballots: Sequence[Ballot], ask: Ask) -> float:
    """That the winner is right and not the strongest other answer, by weight, as stopping rule `log_odds` has it."""
    weights = sorted((row.weight for row in result.tally[1:]), reverse=True)
    return log_odds.leader_confidence(result.tally[0].weight, weights[0] if weights else 0.0, ask)


Confidence = Callable[[VoteResult, Sequence[Ballot], Ask], float]

CONFIDENCES: dict[str, Confidence] = {
    "lead": lead,
    "share": share,
    "stated": stated,
    "likelihood": likelihood,
    "odds": odds,
}


def _winners(result: VoteResult, ballots: Sequence[Ballot]) -> Iterator[Ballot]:
    """The ballots that count for the winner."""
    return (ballot for ballot, row in zip(ballots, result.rows, strict=True) if row == 0 and ballot.weight > 0)


def _mean(figures: Sequence[float]) -> float:
    return sum(figures) / len(figures) if figures else 0.0
