"""Whether an engine that has work shows any sign of life."""

from collections.abc import Iterator
from contextlib import contextmanager


class Pulse:
    """Counts the calls that wait for an engine, and when it was last heard. Times are of one clock, in seconds."""

    def __init__(self) -> None:
        self._num_waiting = 0
        self._heard_at = 0.0

    @contextmanager
    def waiting(self, now_s: float) -> Iterator[None]:
        """While a call waits. Silence before the first of several does not count: an idle engine has nothing to say."""
        if self._num_waiting == 0:
            self._heard_at = max(self._heard_at, now_s)
        self._num_waiting += 1
        try:
            yield
        finally:
            self._num_waiting -= 1

    def heard(self, now_s: float) -> None:
        """The engine did something."""
        self._heard_at = max(self._heard_at, now_s)

    def silent_s(self, now_s: float) -> float:
        """How long it has been silent while somebody waited; 0 when nobody waits."""
        return max(0.0, now_s - self._heard_at) if self._num_waiting else 0.0
