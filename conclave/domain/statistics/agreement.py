"""How much judges agree, beyond what chance would do: Krippendorff's alpha for nominal values.

Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: any number of judges, not all of whom have judged
everything. A unit that only one has judged says nothing of agreement and is passed over.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Agreement:
    """`alpha` is 1 where judges always agree and 0 where they do as often as chance; None where values never differ.

    `observed` is the share of pairs of judgements on one unit that are equal.
    """

    alpha: float | None
    observed: float
    num_units: int  # judged by two at least
    num_judgements: int  # of these


def agreement(units: Iterable[Sequence[Hashable]]) -> Agreement | None:
    """The agreement on units, each with the values that its judges gave it; None where none has two."""
    judged = [Counter(values) for values in units if len(values) > 1]
    if not judged:
        return None
    num = sum(each.total() for each in judged)
    # A pair of judgements of a unit with m of them weighs 1 / (m − 1), so that each judgement counts once.
    disagreed = sum((each.total() ** 2 - _squares(each)) / (each.total() - 1) for each in judged) / num
    totals = Counter[Hashable]()
    for each in judged:
        totals += each
    expected = (num**2 - _squares(totals)) / (num * (num - 1))
    alpha = None if expected == 0 else 1 - disagreed / expected
    return Agreement(alpha, 1 - disagreed, len(judged), num)


def _squares(counts: Counter[Hashable]) -> int:
    return sum(count * count for count in counts.values())
