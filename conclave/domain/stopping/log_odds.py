"""Log odds of the leader: a vote is so many nats of evidence that its answer is right, and sampling ends once they suffice.

Wald's sequential test with calibrated evidence in place of a count: if the log likelihood ratio of "this answer is right" is, for
each of its paths, so many nats, the posterior log odds of two answers are the difference of their sums. An answer that nobody has
given yet stands at `unseen_nats`, so that a single vote of little weight decides nothing.
"""

import math
from collections.abc import Sequence

from conclave.domain.params import Param, Params, number
from conclave.domain.stopping.labels import Labels, fewest
from schemas.values import Ask

PARAMS: Params = {
    "stop_confidence": Param(0.9, 0.0, 1.0),
    "nats_per_vote": Param(1.0, 0.01, 100.0),  # of a vote of weight 1
    "unseen_nats": Param(1.0, -100.0, 100.0),  # in favour of all answers not seen yet
}


def num_needed_by_weight(labels: Labels, weights: Sequence[float], ask: Ask) -> int:
    """Satisfied once the leader by weight is right with probability `stop_confidence`, against the strongest other answer alone.

    That is the runner-up, or one not seen yet. Further samples are taken to weigh 1, the most that they can: so it can't be
    satisfied any earlier.
    """
    totals: dict[str, float] = {}
    for label, weight in zip(labels, weights, strict=True):
        if label:
            totals[label] = totals.get(label, 0.0) + weight
    leader, runner_up = (*sorted(totals.values(), reverse=True)[:2], 0.0, 0.0)[:2]
    wanted = number(ask.params, PARAMS, "stop_confidence")

    def is_enough(more: int) -> bool:
        return leader_confidence(leader + more, runner_up, ask) >= wanted

    return fewest(is_enough, least=0 if leader else 1)


def num_needed(labels: Labels, ask: Ask) -> int:
    """The same where all votes weigh 1."""
    return num_needed_by_weight(labels, [1.0] * len(labels), ask)


def leader_confidence(leader: float, runner_up: float, ask: Ask) -> float:
    """Probability that an answer of so much weight is right and not the strongest other one: 1 / (1 + exp(-log odds))."""
    nats = number(ask.params, PARAMS, "nats_per_vote")
    log_odds = nats * leader - max(nats * runner_up, number(ask.params, PARAMS, "unseen_nats"))
    return 1.0 / (1.0 + math.exp(-min(max(log_odds, -700.0), 700.0)))
