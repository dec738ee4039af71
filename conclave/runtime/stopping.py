"""How long a stop may take: one deadline for all of it, `drain_s` after it was asked for.

    running work   until `cut_at`       then what still runs is cut and handed on
                   until `ended_by`     and what has not ended by then is done again by someone
    flush          until `flushed_by`   of what is finished
    connections    until `closed_by`
    the group      until `ends_at`      it is left in order, so that nobody waits for this member's session

What ends early leaves its time to what comes after it.
"""

from dataclasses import dataclass

_LEAST_S = 1.0  # to flush and leave in order, also where running work is given no time
# Of the time, its half at most: a transaction takes milliseconds, a path that is cut less than a second.
_CLOSING_S = 5.0
_TO_HAND_ON, _TO_FLUSH, _TO_CLOSE = 0.4, 0.4, 0.1  # of the closing; the rest is for the group


@dataclass(frozen=True, slots=True)
class Stopping:
    """The moments of one stop, on the event loop's clock."""

    cut_at: float
    ended_by: float
    flushed_by: float
    closed_by: float
    ends_at: float


def stopping(drain_s: float, now: float) -> Stopping:
    """The moments of a stop that is asked for now."""
    whole_s = max(drain_s, _LEAST_S)
    closing_s = min(_CLOSING_S, whole_s / 2)
    cut_at = now + whole_s - closing_s
    ended_by = cut_at + closing_s * _TO_HAND_ON
    flushed_by = ended_by + closing_s * _TO_FLUSH
    return Stopping(cut_at, ended_by, flushed_by, flushed_by + closing_s * _TO_CLOSE, now + whole_s)
