"""What stopping rules read, and what a row of their table is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from conclave.domain.params import Params
from schemas.values import MAX_SAMPLES, Ask

Labels = Sequence[str]


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """A row of `STOPPING_RULES`. `num_deciding` says how many of the last votes decide once the rule is satisfied: all, or
    those that satisfied it. `num_needed_by_weight` is asked instead of `num_needed` where a vote is weighed."""

    num_needed: Callable[[Labels, Ask], int]
    params: Params = field(default_factory=dict)
    num_deciding: Callable[[Ask], int] | None = None
    num_needed_by_weight: Callable[[Labels, Sequence[float], Ask], int] | None = None


def votes_of(labels: Labels) -> list[int]:
    """The votes of each answer, the most first."""
    counts: dict[str, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    counts.pop("", None)
    return sorted(counts.values(), reverse=True)


def top_two(labels: Labels) -> tuple[int, int]:
    """Votes of the leader and of the runner-up."""
    leader, runner_up = (*votes_of(labels)[:2], 0, 0)[:2]
    return leader, runner_up


def fewest(is_enough: Callable[[int], bool], least: int = 0) -> int:
    """The smallest number from `least` on that is enough, `MAX_SAMPLES` when none below it is. More than enough is enough."""
    low, high, stride = least, min(least, MAX_SAMPLES), 1
    while high < MAX_SAMPLES and not is_enough(high):
        low, high, stride = high + 1, min(high + stride, MAX_SAMPLES), 2 * stride
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return low
