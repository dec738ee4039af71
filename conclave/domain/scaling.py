"""How many processes a service needs, by what comes, what lies there, and how busy those are that it has. Pure.

The utilisation law: what n processes get done in a second, divided by how busy they are, is what they could; a share of that has
to carry what comes, and what lies there within a given time. Counting what lies there alone would start processes for a burst
that is over before they are ready, and counting what comes alone would never catch up.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

MOST_BUSY = 0.7  # of a process on average: above, what waits grows with each uneven second
CATCH_UP_S = 120.0
_LEAST_BUSY = 0.02  # below, what a process could do is a guess
_FEWER = 0.8  # what is needed must fit so far into one process less, so that the number does not go up and down


@dataclass(frozen=True, slots=True)
class Seen:
    """A service over some seconds, all its processes together."""

    processes: int
    partitions: int  # no more processes than these have anything to do
    done_per_s: float
    growth_per_s: float  # of what lies there
    lag: float  # without the marker of a transaction with which each partition may end
    busy: float  # of a process on average, 0 to 1


class Why(StrEnum):
    """What a number rests on."""

    CARRIES = "carries what comes"
    IDLE = "too little comes to tell more"
    MORE = "more comes, or lies there, than these carry"
    PARTITIONS = "more would be needed than there are partitions"
    FEWER = "fewer carry what comes"
    STANDS = "nothing is done, and something lies there: see /ready"


def wanted(seen: Seen, *, most_busy: float = MOST_BUSY, catch_up_s: float = CATCH_UP_S) -> tuple[int, Why]:
    """How many processes are wanted, and why."""
    if seen.done_per_s <= 0:
        return seen.processes, Why.STANDS if seen.lag else Why.IDLE
    if seen.busy < _LEAST_BUSY:
        return seen.processes, Why.IDLE
    one = seen.done_per_s / (seen.processes * min(1.0, seen.busy))
    comes = max(0.0, seen.done_per_s + seen.growth_per_s) + seen.lag / catch_up_s
    most = max(seen.processes, seen.partitions)
    # Of next to nothing that was done, any number follows: what is beyond the partitions is one and the same.
    needed = comes / (one * most_busy) if comes < one * most_busy * (most + 1) else most + 1.0
    if needed > seen.processes:
        number = math.ceil(needed)
        return (number, Why.MORE) if number <= seen.partitions else (most, Why.PARTITIONS)
    fewer = max(1, math.ceil(needed / _FEWER))
    return (fewer, Why.FEWER) if fewer < seen.processes else (seen.processes, Why.CARRIES)
