"""What a ballot weighs: `WEIGHINGS`, a function a way. It sees one ballot, so a ballot weighs the same in every prefix."""

import math
from collections.abc import Callable

from schemas.values import Ask, Ballot

# Of a ballot whose path says nothing of what it is weighed by: half a vote.
_UNSAID = 0.5


def alike(ballot: Ballot, ask: Ask) -> float:
    """One vote a path: self-consistency, arXiv 2203.11171."""
    return 1.0


def likelihood(ballot: Ballot, ask: Ask) -> float:
    """The geometric mean probability of the path's tokens, 0 to 1 (the normalised weighted sum of arXiv 2203.11171)."""
    return _UNSAID if ballot.mean_logprob is None else math.exp(ballot.mean_logprob)


def stated(ballot: Ballot, ask: Ask) -> float:
    """The probability that the path gives its answer itself: confidence-informed self-consistency, arXiv 2502.06233."""
    return _UNSAID if ballot.probability is None else ballot.probability


Weighing = Callable[[Ballot, Ask], float]

WEIGHINGS: dict[str, Weighing] = {
    "alike": alike,
    "likelihood": likelihood,
    "stated": stated,
}
