"""The bound that holds whatever the rule: a leader that the samples left can't catch has won."""

from collections.abc import Sequence
from math import floor

from conclave.domain.params import Param, Params, whole_number
from conclave.domain.stopping.labels import Labels, top_two
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
    margin = lead(labels, weights)
    return 0 if margin > num_left else floor((num_left - margin) / 2) + 1


def lead(labels: Labels, weights: Sequence[float] | None) -> float:
    """The leader's weight less that of the runner-up."""
    if weights is None:
        leader, runner_up = top_two(labels)
        return leader - runner_up
    totals: dict[str, float] = {}
    for label, weight in zip(labels, weights, strict=True):
        if label:
            totals[label] = totals.get(label, 0.0) + weight
    first, second = (*sorted(totals.values(), reverse=True)[:2], 0.0, 0.0)[:2]
    return first - second
