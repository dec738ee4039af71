"""Asks: closed loops of clients, or arrivals at a rate whatever becomes of those before. Every answer is waited for."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.load.arrivals import Level, Shape, gaps, questions
from benchmarks.load.stacks import Target
from conclave.runtime.client import Client
from schemas.events import AnswerReached, Event, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

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


@dataclass
class Driven:
    """All that was asked, and what never came to an end."""

    asked: list[Asked] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


class Driver:
    """Asks one stack through one client of Kafka; ends are matched by the id of the request."""

    def __init__(self, client: Client, *, policy: str | None, asked: Sequence[str], shape: Shape, seed: int) -> None:
        self._client, self._policy, self._shape = client, policy, shape
        self._rng = random.Random(seed)
        self._questions: Iterator[str] = questions(shape, asked, self._rng)
        self._ends: dict[str, asyncio.Future[AnswerReached | RequestFailed]] = {}
        self.driven = Driven()

    async def run(self, levels: Sequence[Level], seconds: float) -> None:
        """Keeps each level up for so long, and then until what it asked has ended."""
        async with self._client.follow(Topic.ANSWERS) as events:
            hearing = asyncio.create_task(self._hear(events), name="answers")
            try:
                for level in levels:
                    await self._run(level, seconds)
            finally:
                hearing.cancel()

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
        request_id = str(new_request_id())
        request = ReasoningRequested(question=next(self._questions), request_id=request_id, policy=self._policy)
        end = self._ends[request_id] = asyncio.get_running_loop().create_future()
        asked = time.time() - late_s
        await self._client.publish(request)
        try:
            async with asyncio.timeout(_LAST_S):
                came = await end
        except TimeoutError:
            self.driven.lost.append(request_id)
            return
        finally:
            del self._ends[request_id]
        is_answered = isinstance(came, AnswerReached)
        self.driven.asked.append(
            Asked(request_id, level, asked, time.time(), is_answered, came.num_paths, came.tokens_out)
        )

    async def _hear(self, events: AsyncIterator[tuple[str, Event]]) -> None:
        async for _, event in events:
            if isinstance(event, AnswerReached | RequestFailed):
                end = self._ends.get(event.request_id)
                if end is not None and not end.done():
                    end.set_result(event)


async def drive(
    target: Target,
    levels: Sequence[Level],
    seconds: float,
    *,
    policy: str | None,
    asked: Sequence[str],
    shape: Shape,
    seed: int,
) -> Driven:
    """Puts a stack under these levels of load, one after the other."""
    async with Client(target.brokers) as client:
        driver = Driver(client, policy=policy, asked=asked, shape=shape, seed=seed)
        await driver.run(levels, seconds)
    return driver.driven
