"""When enough samples have been drawn: `STOPPING_RULES`, a function a rule.

A rule reads the answers of samples 0..n-1 in launch order (None: a sample without an answer, which costs and never
votes) and says how many more samples it needs *at least*, that is, if all of them agreed with the leader; 0 means
satisfied. So it can't be satisfied any earlier, and a wave of exactly that size wastes nothing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from math import comb

from schemas.values import MAX_SAMPLES, Policy, StoppingRule

Answers = Sequence[str | None]


def fixed(answers: Answers, policy: Policy) -> int:
    """Never satisfied: sampling ends when `max_samples` have reported."""
    return max(1, policy.max_samples - len(answers))


def adaptive_consistency(answers: Answers, policy: Policy) -> int:
    """Satisfied once the leader stays ahead of the runner-up with probability `stop_confidence`.

    The Beta criterion of Adaptive-Consistency, arXiv 2305.11860, section 3.
    """
    leader, runner_up = top_two(answers)
    for more in range(0 if leader else 1, MAX_SAMPLES):
        if leader_confidence(leader + more, runner_up) >= policy.stop_confidence:
            return more
    return MAX_SAMPLES


def early_stopping(answers: Answers, policy: Policy) -> int:
    """Satisfied when a whole window agrees: samples are taken `window` at a time, one after the other.

    ESC, arXiv 2401.10480, algorithm 1. A sample without an answer breaks its window.
    """
    width = policy.window
    num_open = len(answers) % width
    if answers and num_open == 0 and _agree(answers[-width:]):
        return 0
    open_window = answers[len(answers) - num_open :]
    return width - num_open if not open_window or _agree(open_window) else 2 * width - num_open


def ahead_by_k(answers: Answers, policy: Policy) -> int:
    """Satisfied once the leader has `lead` votes more than the runner-up."""
    leader, runner_up = top_two(answers)
    return max(0, policy.lead - (leader - runner_up))


STOPPING_RULES: dict[StoppingRule, Callable[[Answers, Policy], int]] = {
    StoppingRule.FIXED: fixed,
    StoppingRule.ADAPTIVE_CONSISTENCY: adaptive_consistency,
    StoppingRule.EARLY_STOPPING: early_stopping,
    StoppingRule.AHEAD_BY_K: ahead_by_k,
}


def num_needed(answers: Answers, policy: Policy) -> int:
    """How many more samples the policy's rule needs at least; 0 when it is satisfied."""
    return STOPPING_RULES[policy.stopping](answers, policy)


def next_wave(answers: Answers, policy: Policy) -> int:
    """How many samples to launch now that all of `answers` are in: the deficit, within `max_samples`."""
    return max(0, min(num_needed(answers, policy), policy.max_samples - len(answers)))


def shortest_stop(answers: Answers, policy: Policy) -> int | None:
    """Length of the shortest prefix that satisfies the policy's rule; None when none does.

    It jumps from wave to wave, as a rule can't be satisfied before its deficit is met.
    """
    length = 0
    while length <= len(answers):
        needed = num_needed(answers[:length], policy)
        if needed == 0:
            return length
        length += needed
    return None


def top_two(answers: Answers) -> tuple[int, int]:
    """Votes of the leader and of the runner-up."""
    counts = sorted(Counter(answer for answer in answers if answer).values())
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


def _agree(window: Answers) -> bool:
    return bool(window[0]) and all(answer == window[0] for answer in window)
