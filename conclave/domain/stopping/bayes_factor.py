"""A Bayes factor for "the leader is the most frequent answer in truth": Best-of-Infinity, arXiv 2509.21091."""

from functools import cache
from math import inf

from conclave.domain.params import Param, Params, number
from conclave.domain.stopping.labels import Labels, fewest, votes_of
from schemas.values import Ask

PARAMS: Params = {"factor": Param(30.0, 1.0, 1e6), "concentration": Param(0.3, 0.01, 1.0)}

_NUM_POINTS = 256


def num_needed(labels: Labels, ask: Ask) -> int:
    """Satisfied once the Bayes factor of the leader being the most frequent answer in truth reaches `factor`."""
    leader, *others = votes_of(labels) or [0]
    wanted, rest = number(ask.params, PARAMS, "factor"), number(ask.params, PARAMS, "concentration")

    def is_enough(more: int) -> bool:
        return factor_of_leading((leader + more, *others), rest) >= wanted

    return fewest(is_enough, least=0 if leader else 1)


@cache
def factor_of_leading(votes: tuple[int, ...], concentration: float) -> float:
    """The Bayes factor of the first of `votes`, the most, being the most frequent answer in truth.

    Under a Dirichlet process as prior, what is known after these votes is a Dirichlet distribution with the votes as parameters,
    and `concentration` for all answers that were not seen. Posterior odds over prior odds; before any vote each of these cells is
    as likely as the next to be the largest.
    """
    probability = probability_of_leading(votes, concentration)
    return inf if probability >= 1.0 else probability / (1.0 - probability) * len(votes)


def probability_of_leading(votes: tuple[int, ...], concentration: float) -> float:
    """Probability that the first of Dirichlet-distributed shares is the largest: parameters are `votes` and `concentration`.

    Shares are independent gamma variables over their sum, so it is the mean, over the first variable, of the product of all others'
    distribution functions; taken at the midpoints of 256 parts of equal probability, where the paper draws at random.
    """
    import numpy as np
    from scipy.special import gammainc, gammaincinv

    first = gammaincinv(votes[0], (np.arange(_NUM_POINTS) + 0.5) / _NUM_POINTS)
    others = np.array([*votes[1:], concentration])
    return float(gammainc(others[:, None], first[None, :]).prod(axis=0).mean())
