"""Was traffic dealt out as it was said to be? A sequential test of sample-ratio mismatch for shares that move.

In an experiment that learns, the counts of arms follow no fixed ratio; each is to be compared with the sum of the propensities that
were logged. Under the null, the arms of the Nᵥ units that version v assigned are draws from its shares wᵥ. If one arm a is
favoured by a factor e^t (or, for t < 0, robbed), the likelihood ratio is ∏ᵥ e^(t·nᵥₐ) / (1 + wᵥₐ (e^t − 1))^Nᵥ: a test martingale
whatever the shares were chosen by. A mixture over arms and tilts is one, too (for fixed shares: Lindon and Malek, arXiv
2011.03567).

The same test says whether arms answer, and whether their users speak, equally often: units lost on the way leave a tilt.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

# From half a point in a hundred of an arm at one half to twice as many: what is in between is close to one of these.
TILTS = tuple(sign * size for size in (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8) for sign in (1, -1))


@dataclass(frozen=True, slots=True)
class Dealt:
    """What one version of the weights dealt out in a segment: its shares, and how many units each arm has got (or kept, so far)."""

    shares: Mapping[str, float]
    counts: Mapping[str, int]


def log_evidence_of_tilt(dealt: Collection[Dealt]) -> float:
    """Against arms being dealt by their shares, version by version. Infinite where an arm without a share has got units."""
    arms = sorted({arm for each in dealt for arm in (*each.shares, *each.counts)})
    if len(arms) < 2:
        return 0.0
    found = [_log_ratio(dealt, arm, tilt) for arm in arms for tilt in TILTS]
    largest = max(found)
    if math.isinf(largest):
        return largest
    return largest + math.log(sum(math.exp(each - largest) for each in found) / len(found))


def _log_ratio(dealt: Collection[Dealt], arm: str, tilt: float) -> float:
    total = 0.0
    for each in dealt:
        share, num = each.shares.get(arm, 0.0), each.counts.get(arm, 0)
        if share <= 0.0 and num > 0:
            return math.inf
        total += tilt * num - sum(each.counts.values()) * math.log1p(share * math.expm1(tilt))
    return total
