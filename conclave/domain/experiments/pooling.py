"""A prior that segments share: what an arm has shown in one kind of task says as much of another as the two are alike.

A segment's belief of an arm is Beta(1 + own + borrowed): of its own units all counts, of the others' what is left of them by their
correlation ρ, that of two outcomes of one segment. With ρ = 0 segments do not differ, and each borrows all of the others: one
belief for all. With ρ = 1 each stands alone. A segment without units of its own has what is borrowed, and a single segment borrows
nothing: then it is the belief of an experiment without segments, to the bit. Only + − × ÷ and a square root are used, so that it is
the same on every machine.
"""

import math
from collections.abc import Mapping

from conclave.domain.experiments.posterior import Belief

Beliefs = Mapping[str, Mapping[str, Belief]]  # segment -> arm -> by the segment's own units

_PRIOR = 1.0
_PRIOR_CORRELATION, _PRIOR_OUTCOMES = 0.1, 20.0


def correlation(own: Beliefs) -> float:
    """How much outcomes of one segment go together: ρ, from 0 to 1, of all arms alike.

    By moments: of K segments with nₖ outcomes and means pₖ around p,
    E Σ nₖ (pₖ − p)² = p (1 − p) ((K − 1)(1 − ρ) + ρ (N − Σ nₖ² / N))
    (Kleinman, "Proportions with extraneous variance", JASA 1973, with nₖ as weights). Sums are over arms. One standard error of
    what it is without any correlation, √(2 (K − 1)), is added, and twenty outcomes that showed a correlation of 0.1: to
    borrow too much costs more than to borrow too little, of few segments the moments say little, and of one nothing.
    """
    excess = freedom = room = 0.0
    for arm in sorted({arm for beliefs in own.values() for arm in beliefs}):
        counts = [_counts(own[segment][arm]) for segment in sorted(own) if arm in own[segment]]
        found = _dispersion([(num, total) for num, total in counts if num > 0])
        excess, freedom, room = excess + found[0], freedom + found[1], room + found[2]
    known = _PRIOR_OUTCOMES * _PRIOR_CORRELATION + excess + math.sqrt(2 * freedom)
    return min(1.0, max(0.0, known / (_PRIOR_OUTCOMES + room)))


def pooled(own: Beliefs, rho: float) -> dict[str, dict[str, Belief]]:
    """Each segment's beliefs with what they borrow of the other segments' at their correlation `rho`.

    Another segment's n outcomes are worth n / (1 + (n − 1) ρ) independent ones (Kish's design effect). N such say of a further
    segment what N (1 − ρ) / (1 + ρ N) of its own would: never more than (1 − ρ) / ρ, however many there are.
    """
    return {
        segment: {arm: _with_borrowed(own, segment, arm, rho) for arm in sorted(own[segment])}
        for segment in sorted(own)
    }


def borrowed_counts(own: Beliefs, rho: float) -> dict[str, dict[str, float]]:
    """How many outcomes of its own, by segment and arm, what is borrowed is worth."""
    return {
        segment: {arm: sum(_borrowed(own, segment, arm, rho)) for arm in sorted(own[segment])}
        for segment in sorted(own)
    }


def _with_borrowed(own: Beliefs, segment: str, arm: str, rho: float) -> Belief:
    alpha, beta = own[segment][arm]
    spoke_for, spoke_against = _borrowed(own, segment, arm, rho)
    return alpha + spoke_for, beta + spoke_against


def _borrowed(own: Beliefs, segment: str, arm: str, rho: float) -> tuple[float, float]:
    """What the other segments say for an arm and against it, as outcomes."""
    num = total = 0.0
    for other in sorted(own):
        if other != segment and arm in own[other]:
            other_num, other_total = _counts(own[other][arm])
            worth = 1.0 / (1.0 + max(0.0, other_num - 1.0) * rho)
            num, total = num + worth * other_num, total + worth * other_total
    kept = (1.0 - rho) / (1.0 + rho * num)
    return kept * total, kept * max(0.0, num - total)


def _dispersion(counts: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Of one arm: by how much its segments' means differ more than by chance, K − 1, and the most that it could be by ρ = 1."""
    whole, total = sum(num for num, _ in counts), sum(each for _, each in counts)
    freedom = float(len(counts) - 1)
    if freedom < 1:
        return 0.0, 0.0, 0.0
    mean, smoothed = total / whole, (_PRIOR + total) / (2 * _PRIOR + whole)
    room = whole - sum(num * num for num, _ in counts) / whole - freedom
    if room <= 0:
        return 0.0, 0.0, 0.0
    spread = 0.0
    for num, each in counts:
        off = each / num - mean
        spread += num * off * off
    return spread / (smoothed * (1.0 - smoothed)) - freedom, freedom, room


def _counts(belief: Belief) -> tuple[float, float]:
    """How many outcomes a segment's own belief rests on, and their sum."""
    alpha, beta = belief
    return alpha + beta - 2 * _PRIOR, alpha - _PRIOR
