"""From how probably a path is right to what its vote weighs."""

import math
from collections.abc import Sequence

_LEAST = 0.05  # no path is silenced, or counted against its answer
_SURE = 1e-3


def vote_weights(table: Sequence[float], num_answers: float) -> tuple[float, ...]:
    """What a vote weighs at each point of `table`, 1 at most.

    log(p (K − 1) / (1 − p)) with K answers to choose from: the weights by which a vote of independent paths is most often right
    (Nitzan and Paroush, 1982; for several answers, the posterior of each under uniform errors). Where all points say the same,
    every vote weighs 1.
    """
    raw = [_log_odds(point, max(2.0, num_answers)) for point in table]
    most = max(raw, default=0.0)
    if most <= 0:
        return (1.0,) * len(table)
    return tuple(max(_LEAST, each / most) for each in raw)


def _log_odds(probability: float, num_answers: float) -> float:
    sure = min(1 - _SURE, max(_SURE, probability))
    return max(0.0, math.log(sure * (num_answers - 1) / (1 - sure)))
