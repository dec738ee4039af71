"""When enough samples have been drawn: `STOPPING_RULES`, a row a rule.

A rule reads the labels of samples 0..n-1 in launch order, that is, the clusters of their answers ("": a sample without
an answer, which costs and never votes). It says how many more samples it needs *at least*, that is, if all of them agreed
with the leader; 0 means satisfied. So it can't be satisfied any earlier, and a wave of exactly that size wastes nothing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import comb

from conclave.domain.equivalence import Equivalence
from conclave.domain.params import Param, Params, number, whole_number
from schemas.values import MAX_SAMPLES, Ask

Labels = Sequence[str]

_STOP_CONFIDENCE: Params = {"stop_confidence": Param(0.95, 0.0, 1.0)}
_WINDOW: Params = {"window": Param(5, 1, MAX_SAMPLES, is_whole=True)}
_LEAD: Params = {"lead": Param(3, 1, MAX_SAMPLES, is_whole=True)}


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """A row of `STOPPING_RULES`. `num_deciding` says how many of the last votes decide once the rule is satisfied: all, or
    those that satisfied it."""

    num_needed: Callable[[Labels, Ask], int]
    params: Params = field(default_factory=dict)
    num_deciding: Callable[[Ask], int] | None = None


def fixed(labels: Labels, ask: Ask) -> int:
    """Never satisfied: sampling ends when `max_samples` have reported."""
    return max(1, ask.max_samples - len(labels))


def adaptive_consistency(labels: Labels, ask: Ask) -> int:
    """Satisfied once the leader stays ahead of the runner-up with probability `stop_confidence`.

    The Beta criterion of Adaptive-Consistency, arXiv 2305.11860, section 3.
    """
    leader, runner_up = top_two(labels)
    wanted = number(ask.params, _STOP_CONFIDENCE, "stop_confidence")
    for more in range(0 if leader else 1, MAX_SAMPLES):
        if leader_confidence(leader + more, runner_up) >= wanted:
            return more
    return MAX_SAMPLES


def early_stopping(labels: Labels, ask: Ask) -> int:
    """Satisfied when a whole window agrees: samples are taken `window` at a time, one after the other.

    ESC, arXiv 2401.10480, algorithm 1. A sample without an answer breaks its window.
    """
    width = window(ask)
    num_open = len(labels) % width
    if labels and num_open == 0 and _agree(labels[-width:]):
        return 0
    open_window = labels[len(labels) - num_open :]
    return width - num_open if not open_window or _agree(open_window) else 2 * width - num_open


def window(ask: Ask) -> int:
    """The width of early stopping's windows; its answer is that of the one that agrees, whatever was said before."""
    return whole_number(ask.params, _WINDOW, "window")


def ahead_by_k(labels: Labels, ask: Ask) -> int:
    """Satisfied once the leader has `lead` votes more than the runner-up."""
    leader, runner_up = top_two(labels)
    return max(0, whole_number(ask.params, _LEAD, "lead") - (leader - runner_up))


STOPPING_RULES: dict[str, StoppingRule] = {
    "fixed": StoppingRule(fixed),
    "adaptive_consistency": StoppingRule(adaptive_consistency, _STOP_CONFIDENCE),
    "early_stopping": StoppingRule(early_stopping, _WINDOW, num_deciding=window),
    "ahead_by_k": StoppingRule(ahead_by_k, _LEAD),
}


def num_needed(labels: Labels, ask: Ask) -> int:
    """How many more samples the ask's rule needs at least; 0 when it is satisfied."""
    return STOPPING_RULES[ask.stopping].num_needed(labels, ask)


def next_wave(labels: Labels, ask: Ask) -> int:
    """How many samples to launch now that all of `labels` are in: the deficit, within `max_samples`."""
    return max(0, min(num_needed(labels, ask), ask.max_samples - len(labels)))


def shortest_stop(answers: Sequence[str], ask: Ask, equivalence: Equivalence) -> int | None:
    """Length of the shortest prefix that satisfies the ask's rule; None when none does.

    Each prefix is judged by its own answers ("" of a sample that gave none). It jumps from wave to wave, as a rule can't be
    satisfied before its deficit is met.
    """
    length = 0
    while length <= len(answers):
        needed = num_needed(equivalence(answers[:length]), ask)
        if needed == 0:
            return length
        length += needed
    return None


def top_two(labels: Labels) -> tuple[int, int]:
    """Votes of the leader and of the runner-up."""
    counts = sorted(Counter(label for label in labels if label).values())
    return (counts[-1] if counts else 0), (counts[-2] if len(counts) > 1 else 0)


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


def _agree(window: Labels) -> bool:
    return bool(window[0]) and all(label == window[0] for label in window)
