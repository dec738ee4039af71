"""Asks: closed loops of clients, or arrivals at a rate whatever becomes of those before. Every answer is waited for."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.load.arrivals import Level, Shape, gaps, questions

_LAST_S = 120.0  # for what is still open when a level is over


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with its end. Times are seconds since 1970, on this machine's clock."""

    request_id: str
    level: Level
    asked: float
    told: float
    is_answered: bool
    num_paths: int
    tokens_out: int
    accepted: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that was not answered as it should be, and why: a status, or the name of an error."""

    at: float
    kind: str


@dataclass(slots=True)
class Put:
    """What a client knows of its question so far."""

    request_id: str | None = None
    accepted: float | None = None  # from when on it is owed an answer


@dataclass(frozen=True, slots=True)
class End:
    """How a request ended."""

    is_answered: bool
    num_paths: int
    tokens_out: int


@dataclass
class Driven:
    """All that was asked, and what never came to an end."""

    asked: list[Asked] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # accepted, and then without an end
    num_never_accepted: int = 0
    refused: list[Refused] = field(default_factory=list)

    @property
    def accepted(self) -> set[str]:
        """All that an answer was owed to."""
        return {each.request_id for each in self.asked} | set(self.lost)


class Way(Protocol):
    """How a question is put: over Kafka, or over HTTP."""

    async def ask(self, put: Put, question: str, policy: str | None) -> End: ...


class Driver:
    """Puts questions in one way. What takes longer than `last_s` is lost."""

    def __init__(
        self, way: Way, *, policy: str | None, asked: Sequence[str], shape: Shape, seed: int, last_s: float = _LAST_S
    ) -> None:
        self._way, self._policy, self._shape, self._last_s = way, policy, shape, last_s
        self._rng = random.Random(seed)
        self._questions: Iterator[str] = questions(shape, asked, self._rng)
        self.driven = Driven()

    async def run(self, levels: Sequence[Level], seconds: float) -> None:
        """Keeps each level up for so long, and then until what it asked has ended."""
        for level in levels:
            await self._run(level, seconds)

    async def _run(self, level: Level, seconds: float) -> None:
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            if level.clients is not None:
                for _ in range(level.clients):
                    tasks.create_task(self._client_until(level, until))
                return
            assert level.rate_per_s is not None, "a level has clients or a rate"
            due = time.monotonic()
            for gap_s in itertools.chain((0.0,), gaps(self._shape, level.rate_per_s, self._rng)):
                due += gap_s
                if due >= until:
                    return
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                # From when it was due: a driver that falls behind must not flatter what it measures.
                tasks.create_task(self._ask(level, late_s=time.monotonic() - due))

    async def _client_until(self, level: Level, until: float) -> None:
        while time.monotonic() < until:
            await self._ask(level)

    async def _ask(self, level: Level, *, late_s: float = 0.0) -> None:
        put, asked = Put(), time.time() - late_s
        try:
            async with asyncio.timeout(self._last_s):
                end = await self._way.ask(put, next(self._questions), self._policy)
        except TimeoutError:
            if put.accepted is None:
                self.driven.num_never_accepted += 1
            else:
                self.driven.lost.append(str(put.request_id))
            return
        self.driven.asked.append(
            Asked(
                str(put.request_id),
                level,
                asked,
                time.time(),
                end.is_answered,
                end.num_paths,
                end.tokens_out,
                put.accepted,
            )
        )
