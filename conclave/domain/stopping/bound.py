"""The bound that holds whatever the rule: a leader that the samples left can't catch has won.

Where a vote has a quorum, that is not all: whether there is an answer must be certain as well.
"""

from collections.abc import Sequence
from math import floor

from conclave.domain.params import Param, Params, number, whole_number
from conclave.domain.stopping.labels import Labels
from conclave.domain.voting import QUORUM
from schemas.values import Ask


def params(*, is_on: bool) -> Params:
    """The parameter that turns it on (1) or off (0), by its default."""
    return {"bound": Param(float(is_on), 0, 1, is_whole=True)}


PARAMS: Params = params(is_on=True)


def is_on(ask: Ask, declared: Params) -> bool:
    """Whether it ends the sampling of an ask, of whose rule these are the parameters."""
    return whole_number(ask.params, declared if "bound" in declared else PARAMS, "bound") == 1


def num_needed(labels: Labels, weights: Sequence[float] | None, ask: Ask) -> int:
    """How many samples more it takes, if all are for the leader, until those left of `max_samples` can't make another one lead.

    A sample weighs at most 1, and those of `labels` as much as `weights` say: 1 each if there are none. A tie is no lead.
    Without any sample left there is nothing to be saved: then it is never 0.
    """
    num_left = ask.max_samples - len(labels)
    if num_left <= 0:
        return 1
    first, *others = _weights_of_answers(labels, weights) or [0.0]
    margin = first - (others[0] if others else 0.0)
    until_won = 0 if margin > num_left else floor((num_left - margin) / 2) + 1
    return max(until_won, _until_clear(first, first + sum(others), num_left, _quorum(ask)))


def _until_clear(first: float, total: float, num_left: int, quorum: float) -> int:
    """How many for the leader it takes until its share can't fall below the quorum any more; 0 where it can't come up to it."""
    shares = (
        (first + more) / (total + num_left) for more in range(num_left + 1)
    )  # if all others vote for another answer
    return next((more for more, share in enumerate(shares) if share >= quorum), 0)


def _quorum(ask: Ask) -> float:
    """The share of weight without which there is no answer; 0 where the leader is the answer whatever its share."""
    return number(ask.params, QUORUM, "quorum") if ask.voting == "quorum" or ask.answer_schema else 0.0


def _weights_of_answers(labels: Labels, weights: Sequence[float] | None) -> list[float]:
    """The weight of each answer, the heaviest first."""
    totals: dict[str, float] = {}
    for at, label in enumerate(labels):
        if label:
            totals[label] = totals.get(label, 0.0) + (1.0 if weights is None else weights[at])
    return sorted(totals.values(), reverse=True)
