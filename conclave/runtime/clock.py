"""The time of day, as the services that need it are given it. How long something takes is the event loop's to say."""

import time
from collections.abc import Callable

ClockMs = Callable[[], int]  # milliseconds since 1970


def wall_clock_ms() -> int:
    """The machine's time of day, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
