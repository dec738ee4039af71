"""When enough samples have been drawn: `STOPPING_RULES`, a file and a row a rule.

A rule reads the labels of samples 0..n-1 in launch order, that is, the clusters of their answers ("": a sample without
an answer, which costs and never votes). It says how many more samples it needs *at least*, that is, if all of them agreed
with the leader; 0 means satisfied. So it can't be satisfied any earlier, and a wave of exactly that size wastes nothing. A rule may
heed what votes weigh, 1 at most.

Whatever the rule, sampling also ends once no sample that is left can change who wins: the bound.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conclave.domain.stopping import (
    adaptive_consistency,
    ahead_by_k,
    bayes_factor,
    bound,
    doubling,
    early_stopping,
    evidence,
    fixed,
    likelihood_ratio,
    log_odds,
)
from conclave.domain.stopping.adaptive_consistency import leader_confidence
from conclave.domain.stopping.labels import Labels, StoppingRule, top_two
from schemas.values import Ask, StopReason

__all__ = ["STOPPING_RULES", "Labels", "Stop", "StoppingRule", "leader_confidence", "top_two"]

STOPPING_RULES: dict[str, StoppingRule] = {
    "fixed": StoppingRule(fixed.num_needed, fixed.PARAMS),
    "adaptive_consistency": StoppingRule(adaptive_consistency.num_needed, adaptive_consistency.PARAMS),
    "early_stopping": StoppingRule(
        early_stopping.num_needed, early_stopping.PARAMS, num_deciding=early_stopping.window
    ),
    "ahead_by_k": StoppingRule(ahead_by_k.num_needed, ahead_by_k.PARAMS),
    "doubling": StoppingRule(doubling.num_needed, doubling.PARAMS),
    "sprt": StoppingRule(likelihood_ratio.sprt, likelihood_ratio.SPRT_PARAMS),
    "mixture_sprt": StoppingRule(likelihood_ratio.mixture_sprt, likelihood_ratio.MIXTURE_PARAMS),
    "bayes_factor": StoppingRule(bayes_factor.num_needed, bayes_factor.PARAMS),
    "evidence": StoppingRule(evidence.num_needed, evidence.PARAMS, num_needed_by_weight=evidence.num_needed_by_weight),
    "log_odds": StoppingRule(log_odds.num_needed, log_odds.PARAMS, num_needed_by_weight=log_odds.num_needed_by_weight),
}


@dataclass(frozen=True, slots=True)
class Stop:
    """Where sampling ends: after so many samples, and by what."""

    length: int
    reason: StopReason  # CONFIDENT: the rule; SETTLED: the bound


def shortest_stop(
    answers: Sequence[str],
    ask: Ask,
    votes: Callable[[Sequence[str]], Sequence[Labels]],
    weights: Sequence[float] | None = None,
) -> Stop | None:
    """Where the shortest prefix ends on which all votes have ended, `votes` giving those on a prefix; None when none does.

    Each prefix is judged by its own answers ("" of a sample that gave none). It jumps from wave to wave, as a rule can't be
    satisfied before its deficit is met.

    It is settled where the bound is what ended any of the votes, and confident where all are satisfied.
    """
    length = 0
    while length <= len(answers):
        needed, reason = needed_of_all(votes(answers[:length]), ask, None if weights is None else weights[:length])
        if needed == 0:
            return Stop(length, reason)
        length += needed
    return None


def needed_of_all(votes: Sequence[Labels], ask: Ask, weights: Sequence[float] | None = None) -> tuple[int, StopReason]:
    """How many more samples it takes at least until every vote has ended, and by what the last one does."""
    return max(
        (_needed(labels, ask, weights) for labels in votes), key=lambda each: (each[0], each[1] is StopReason.SETTLED)
    )


def _needed(labels: Labels, ask: Ask, weights: Sequence[float] | None) -> tuple[int, StopReason]:
    rule = STOPPING_RULES[ask.stopping]
    if weights is not None and rule.num_needed_by_weight is not None:
        needed = rule.num_needed_by_weight(labels, weights, ask)
    else:
        needed = rule.num_needed(labels, ask)
    if needed == 0 or not bound.is_on(ask, rule.params):
        return needed, StopReason.CONFIDENT
    if rule.num_deciding is not None and needed <= ask.max_samples - len(labels):
        # The votes that would decide are still to come, so no lead of those that are there is safe.
        return needed, StopReason.CONFIDENT
    until_bound = bound.num_needed(labels, weights, ask)
    return (until_bound, StopReason.SETTLED) if until_bound < needed else (needed, StopReason.CONFIDENT)
