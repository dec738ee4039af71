"""How often a message is tried, how long between, and what is said once of a dependency that is away."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from conclave.errors import LostDependency
from conclave.runtime import metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter (Brooker, "Exponential Backoff and Jitter", 2015), floored at a tenth."""

    base_s: float
    cap_s: float = 30.0

    def delay_s(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after the `attempt`-th failure, counted from 1."""
        limit = min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 30))
        return limit * rng.uniform(0.1, 1.0)


@dataclass(slots=True)
class Dependencies:
    """Which dependencies are away: said once when one goes and once when it is back."""

    _away: dict[str, str] = field(default_factory=dict)

    @property
    def away(self) -> Mapping[str, str]:
        """The names of those away, and why."""
        return dict(self._away)

    def lost(self, name: str, why: str) -> None:
        """Notes that `name` is away."""
        metrics.UP.labels(name).set(0)
        is_news = name not in self._away
        self._away[name] = why[:500]
        if is_news:
            log.warning("dependency_lost", dependency=name, why=why[:500])

    def back(self, name: str) -> None:
        """Notes that `name` answers."""
        metrics.UP.labels(name).set(1)
        if name in self._away:
            del self._away[name]
            log.warning("dependency_back", dependency=name)


class Missed:
    """Dependencies that events wait for: each is away until none of them waits for it any more, whatever became of them."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._num_waiting = Counter[str]()  # events, by what they miss

    def miss(self, error: LostDependency, missed: set[str]) -> None:
        """Notes that an event misses something; `missed` holds all that it has missed, and it is added there."""
        self._dependencies.lost(error.dependency, error.why)
        if error.dependency not in missed:
            missed.add(error.dependency)
            self._num_waiting[error.dependency] += 1

    def no_more(self, missed: set[str]) -> None:
        """Notes that an event which missed these has ended."""
        for name in missed:
            self._num_waiting[name] -= 1
            if not self._num_waiting[name]:
                self._dependencies.back(name)
