"""How patient an engine is with its server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How a server that is in trouble is treated. Seconds."""

    shortest_pause_s: float = 0.1
    longest_pause_s: float = 1.0
    longest_recheck_s: float = 30.0  # while a setting is at fault
    longest_told_s: float = 300.0  # a server that asks for more is called again after this
    silence_s: float = 300.0  # a call that hears nothing for so long is given up, and comes again
    failures_until_away: int = 3
