"""Who asks when: levels of load, the gaps between arrivals, and which question is asked. Pure: randomness is an argument."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

_BURST_RATE = 10.0  # of the mean rate, inside a burst
_BURST_SIZE = 20.0  # arrivals, on average
_ZIPF_EXPONENT = 1.1


class Shape(StrEnum):
    """How arrivals lie, and how often questions come again."""

    STEADY = "steady"  # evenly, every question as likely as any other
    BURSTY = "bursty"  # ten times as fast for about twenty arrivals, then a pause
    ZIPF = "zipf"  # evenly, the k-th question asked in proportion to k^-1.1


@dataclass(frozen=True, slots=True)
class Level:
    """A load that is kept up: so many clients, each asking when it has its answer, or so many arrivals a second."""

    clients: int | None = None
    rate_per_s: float | None = None

    def __str__(self) -> str:
        return f"{self.clients} clients" if self.clients is not None else f"{self.rate_per_s:g}/s"


def ramp(text: str) -> tuple[float, ...]:
    """`50:500:10` as ten levels from 50 to 500; `5,10,20` as those. Raises: ValueError."""
    if ":" not in text:
        levels = tuple(float(each) for each in text.split(","))
    else:
        first, last, number = text.split(":")
        steps = int(number) - 1
        levels = tuple(float(first) + (float(last) - float(first)) * step / max(1, steps) for step in range(steps + 1))
    if not levels or min(levels) <= 0:
        raise ValueError(f"levels above 0 are expected, got {text!r}")
    return levels


def gaps(shape: Shape, rate_per_s: float, rng: random.Random) -> Iterator[float]:
    """Seconds from one arrival to the next, on average 1 / `rate_per_s`."""
    mean_s = 1 / rate_per_s
    if shape is not Shape.BURSTY:
        yield from itertools.repeat(mean_s)
    while True:
        size = 1 + int(rng.expovariate(1 / (_BURST_SIZE - 1)))
        quick_s = mean_s / _BURST_RATE
        yield from itertools.repeat(quick_s, size - 1)
        yield size * mean_s - (size - 1) * quick_s


def questions(shape: Shape, asked: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Which question comes next."""
    if shape is not Shape.ZIPF:
        while True:
            yield rng.choice(asked)
    weights = list(itertools.accumulate((place + 1) ** -_ZIPF_EXPONENT for place in range(len(asked))))
    while True:
        yield rng.choices(asked, cum_weights=weights)[0]
