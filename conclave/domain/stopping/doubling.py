"""Twice as many samples each time, until enough of them agree."""

from conclave.domain.params import Param, Params, number, whole_number
from conclave.domain.stopping.labels import Labels, top_two
from schemas.values import MAX_SAMPLES, Ask

PARAMS: Params = {"first": Param(4, 1, MAX_SAMPLES, is_whole=True), "share": Param(0.75, 0.0, 1.0)}


def num_needed(labels: Labels, ask: Ask) -> int:
    """Satisfied when, at `first` samples or twice, four times, … as many, the leader has a `share` of them.

    A sample without an answer is one of them.
    """
    leader, _ = top_two(labels)
    share = number(ask.params, PARAMS, "share")
    size = whole_number(ask.params, PARAMS, "first")
    while size < len(labels) or max(1, leader + size - len(labels)) < share * size or not leader + size - len(labels):
        if size >= MAX_SAMPLES:
            return MAX_SAMPLES
        size *= 2
    return size - len(labels)
