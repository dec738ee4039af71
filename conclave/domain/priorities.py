"""How soon a request wants its answer, beside the others: `PRIORITIES`, a row a class.

A class has its weight's share of the engine for as long as it has work, and what the others leave besides; so batches fill
the slack, and nothing starves. The decomposer is the only door: what comes after it takes a name that it does not know for
the default.
"""

from collections.abc import Mapping

DEFAULT_PRIORITY = "standard"

# The most urgent first: the weight of each.
PRIORITIES: Mapping[str, float] = {
    "interactive": 16.0,  # somebody waits and looks on
    "standard": 4.0,
    "batch": 1.0,  # any time before its deadline will do
}
MOST_URGENT = next(iter(PRIORITIES))


def known_priority(name: str) -> str:
    """The class of that name; the default one where there is none."""
    return name if name in PRIORITIES else DEFAULT_PRIORITY


def at_most(wanted: str, most: str) -> str:
    """The class that is wanted, or `most` where that is the less urgent one. Raises: ValueError for a name that is no class."""
    ranks = list(PRIORITIES)
    return max(wanted, most, key=ranks.index)
