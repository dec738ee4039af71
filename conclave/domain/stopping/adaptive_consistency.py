"""Adaptive-Consistency: the leader is likely enough to stay ahead. arXiv 2305.11860."""

from functools import cache, lru_cache
from math import comb

from conclave.domain.params import Param, Params, number
from conclave.domain.stopping.labels import Labels, fewest, top_two
from schemas.values import Ask

PARAMS: Params = {"stop_confidence": Param(0.95, 0.0, 1.0)}


def num_needed(labels: Labels, ask: Ask) -> int:
    """Satisfied once the leader stays ahead of the runner-up with probability `stop_confidence`: the Beta criterion, section 3."""
    return _num_needed(*top_two(labels), number(ask.params, PARAMS, "stop_confidence"))


@lru_cache(maxsize=4096)  # votes are few, and asked about again and again
def _num_needed(leader: int, runner_up: int, wanted: float) -> int:
    return fewest(lambda more: leader_confidence(leader + more, runner_up) >= wanted, least=0 if leader else 1)


@cache
def leader_confidence(leader: int, runner_up: int) -> float:
    """Probability that an answer with `leader` votes stays ahead of one with `runner_up`; 0 without any vote.

    P(p > 1/2) for p ~ Beta(leader + 1, runner_up + 1), arXiv 2305.11860. For integers the regularised incomplete beta
    function is a binomial sum (DLMF 8.17.5), here in exact integers:

        1 - I_{1/2}(a + 1, b + 1) = 2^-(a+b+1) * sum_{i=0..a} C(a+b+1, i)
    """
    if leader == 0:
        return 0.0
    flips = leader + runner_up + 1
    return sum(comb(flips, heads) for heads in range(leader + 1)) / (1 << flips)
