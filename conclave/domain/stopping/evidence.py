"""Adaptive-Consistency by weight: surer samples are more evidence, so that fewer of them are enough.

A count of votes treats a path that wavered like one that did not. Where weights are calibrated, that is, what a path says of itself
was found to be worth so much on other questions (weighing `learned`), a vote is evidence in proportion to its weight.
"""

from collections.abc import Sequence
from functools import lru_cache

from conclave.domain.params import Param, Params, number
from conclave.domain.stopping.labels import Labels, fewest
from schemas.values import Ask

PARAMS: Params = {
    "stop_confidence": Param(0.95, 0.0, 1.0),
    "votes_of_evidence": Param(2.0, 0.1, 16.0),  # that a vote of weight 1 counts for
}


def num_needed_by_weight(labels: Labels, weights: Sequence[float], ask: Ask) -> int:
    """Satisfied once the leader by weight stays ahead of the runner-up with probability `stop_confidence`.

    The Beta criterion of arXiv 2305.11860, section 3, with `votes_of_evidence` times the weight in place of votes. Further samples
    are taken to weigh 1, the most that they can: so it can't be satisfied any earlier.
    """
    totals: dict[str, float] = {}
    for label, weight in zip(labels, weights, strict=True):
        if label:
            totals[label] = totals.get(label, 0.0) + weight
    leader, runner_up = (*sorted(totals.values(), reverse=True)[:2], 0.0, 0.0)[:2]
    wanted, scale = (number(ask.params, PARAMS, name) for name in ("stop_confidence", "votes_of_evidence"))

    def is_enough(more: int) -> bool:
        return leader_confidence(scale * (leader + more), scale * runner_up) >= wanted

    return fewest(is_enough, least=0 if leader else 1)


def num_needed(labels: Labels, ask: Ask) -> int:
    """The same where all votes weigh 1."""
    return num_needed_by_weight(labels, [1.0] * len(labels), ask)


@lru_cache(maxsize=65_536)
def leader_confidence(leader: float, runner_up: float) -> float:
    """Probability that an answer with so much evidence stays ahead of one with that much; 0 without any.

    P(p > 1/2) for p ~ Beta(leader + 1, runner_up + 1); for whole numbers it is Adaptive-Consistency's.
    """
    from scipy.special import betainc

    return 1.0 - float(betainc(leader + 1.0, runner_up + 1.0, 0.5)) if leader > 0 else 0.0
