"""How often a consumer looks up where nothing happens: late enough to cost little, soon enough that nobody notices.

A simulation, in which nobody waits, looks up less often: three in four of its callbacks were such looks.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """`idle_poll_ms` is how late a stop is noticed at most, `tick_s` how late a group whose time has come is joined.

    `between_writes_s` is how soon a store is written to again at the earliest, unless there is much to write: at a trickle
    a write costs more than all that is in it (docs/decisions/0021), and nobody waits for the record of an answer.
    """

    idle_poll_ms: int = 200
    tick_s: float = 0.2
    between_writes_s: float = 0.1
