"""How much has been given out lately: what the thresholds of a router follow."""

from collections import deque
from dataclasses import dataclass

from conclave.domain.routing.rules import Limits

_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Pressure:
    """How near load and budget are to their limits, each from 0 up; 0 where there is no limit, or nothing is known."""

    load: float = 0.0
    budget: float = 0.0

    @property
    def value(self) -> float:
        """The greater of the two, at most 1."""
        return min(1.0, max(self.load, self.budget))


class Meter:
    """Counts the thoughts that were given out within the last minute."""

    def __init__(self) -> None:
        self._given_ms: deque[int] = deque()

    def note(self, now_ms: int) -> None:
        """One more."""
        self._forget(now_ms)
        self._given_ms.append(now_ms)

    def pressure(self, limits: Limits, now_ms: int, tokens_last_hour: float | None) -> Pressure:
        """The pressure now; `tokens_last_hour` is None where nobody knows."""
        self._forget(now_ms)
        load = len(self._given_ms) / limits.thoughts_per_minute if limits.thoughts_per_minute else 0.0
        budget = 0.0
        if limits.tokens_per_hour is not None and tokens_last_hour is not None:
            budget = tokens_last_hour / limits.tokens_per_hour
        return Pressure(load, budget)

    def _forget(self, now_ms: int) -> None:
        while self._given_ms and self._given_ms[0] <= now_ms - _MINUTE_MS:
            self._given_ms.popleft()
