"""What comes of a question under a strategy whose steps come to what a test says."""

from dataclasses import dataclass

from conclave.domain.strategies import STRATEGIES
from conclave.domain.thought import Conclude
from conclave.testing.strategies import Coming, played
from schemas.values import Step


@dataclass(frozen=True)
class Played:
    end: Conclude
    steps: tuple[Step, ...]


def play(strategy: str, *comings: Coming, **params: float) -> Played:
    """What comes of a question whose steps come to `comings`; it must end after the last of them."""
    end, thought = played(STRATEGIES[strategy], comings, params=params)
    return Played(end, thought.steps)


SURE, UNSURE = ("36", 0.9), ("35", 0.3)
