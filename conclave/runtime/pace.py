"""How often a consumer looks up where nothing happens: late enough to cost little, soon enough that nobody notices.

A simulation, in which nobody waits, looks up less often: three in four of its callbacks were such looks.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """`idle_poll_ms` is how late a stop is noticed at most, `tick_s` how late a group whose time has come is joined."""

    idle_poll_ms: int = 200
    tick_s: float = 0.2
