"""Evidence on the mean of differences between two outcomes of the same question, as e-values: valid at every look.

For differences z₁ … zₙ from -1 to 1 with mean at most m given the past, ∏ (1 + λ (zᵢ − m)) is a test supermartingale for each λ
from 0 to 1 / (1 + m), and so is any average of them over λ (Waudby-Smith and Ramdas, arXiv 2010.09686, section 4). That the two
outcomes hang together, since hard questions are hard for both, is why pairs tell so much: what is alike in both drops out.

log (1 + λ (z − m)) is concave in z, so between -1, 0 and 1 it is at least what lies on the chords. Of a fractional difference the
chord counts: the evidence depends on the number of pairs and the sums of what was better and worse alone, and is never too large.
"""

import math
from dataclasses import dataclass

# Shares of the largest bet, each as likely: careful ones for small differences, bold ones for large.
_BETS = (*(2.0**-k for k in range(1, 13)), *(1.0 - 2.0**-k for k in range(2, 8)))


@dataclass(frozen=True, slots=True)
class Differences:
    """How many pairs there are, and by how much the first was better than the second, and worse, summed over them."""

    num: float
    better: float
    worse: float

    @property
    def mean(self) -> float:
        """Of the first, less that of the second; 0 of none."""
        return (self.better - self.worse) / self.num if self.num > 0 else 0.0

    def mirrored(self) -> "Differences":
        """The same, seen from the second."""
        return Differences(self.num, self.worse, self.better)


def log_evidence_of_difference(differences: Differences, above: float) -> float:
    """What the pairs say against a mean difference of at most `above`, which is from -1 to 1. Nothing is above 1, all above -1."""
    if above <= -1.0:
        return math.inf
    alike = max(0.0, differences.num - differences.better - differences.worse)
    wealths = []
    for bet in _BETS:
        by = bet / (1.0 + above)
        wealth = differences.better * math.log1p(by * (1.0 - above)) + alike * math.log1p(-by * above)
        wealths.append(wealth + differences.worse * math.log1p(-by * (1.0 + above)))
    largest = max(wealths)
    return largest + math.log(math.fsum(math.exp(each - largest) for each in wealths) / len(wealths))
