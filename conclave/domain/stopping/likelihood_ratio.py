"""Sequential tests of the leader against the runner-up: ConSol, arXiv 2503.17587.

Of the samples that voted for either, each is for the leader with a probability p. The null hypothesis is p = 1/2: that they are
equally frequent in truth. Nothing is concluded for it: who is not ahead yet may still become so.
"""

from functools import cache
from math import comb, log

from conclave.domain.params import Param, Params, number
from conclave.domain.stopping.adaptive_consistency import leader_confidence
from conclave.domain.stopping.labels import Labels, fewest, top_two
from schemas.values import Ask

SPRT_PARAMS: Params = {
    "p1": Param(0.8, 0.501, 0.999),
    "alpha": Param(0.05, 1e-6, 0.5),
    "beta": Param(0.2, 0.0, 0.5),
}
MIXTURE_PARAMS: Params = {"alpha": Param(0.2, 1e-6, 1.0)}


def sprt(labels: Labels, ask: Ask) -> int:
    """Satisfied once p = `p1` is (1 - `beta`) / `alpha` times as likely as p = 1/2: Wald's upper boundary."""
    leader, runner_up = top_two(labels)
    p1, alpha, beta = (number(ask.params, SPRT_PARAMS, name) for name in ("p1", "alpha", "beta"))
    wanted = log((1 - beta) / alpha)
    against = runner_up * log(2 * (1 - p1))
    return fewest(lambda more: (leader + more) * log(2 * p1) + against >= wanted, least=0 if leader else 1)


def mixture_sprt(labels: Labels, ask: Ask) -> int:
    """Satisfied once p somewhere above 1/2, all values alike, is 1 / `alpha` times as likely as p = 1/2."""
    leader, runner_up = top_two(labels)
    wanted = 1 / number(ask.params, MIXTURE_PARAMS, "alpha")
    return fewest(lambda more: mixture_ratio(leader + more, runner_up) >= wanted, least=0 if leader else 1)


@cache
def mixture_ratio(leader: int, runner_up: int) -> float:
    """The mixture likelihood ratio of a leader with so many votes against a runner-up with so many; 0 without any vote.

        2^(a+b) * 2 * integral over p from 1/2 to 1 of p^a (1-p)^b = 2^(a+b+1) B(a+1, b+1) P(p > 1/2)

    with a uniform density on [1/2, 1] as mixing distribution (Robbins 1970), P as in `leader_confidence`.
    """
    flips = leader + runner_up
    return 2.0 ** (flips + 1) / ((flips + 1) * comb(flips, leader)) * leader_confidence(leader, runner_up)
