"""Looks at a stack each second while it is under load: memory, CPU, what waits, how full the engine is."""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.cards import Card, cards
from benchmarks.load.machine import Usage, joules, usage
from benchmarks.load.stacks import Target
from conclave.local import probe

_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Look:
    """The stack at a moment, in seconds since 1970. What a service does not say is missing."""

    at: float
    usage: dict[str, Usage]
    lag: dict[str, int]  # records that a service has still to finish
    waiting: dict[str, int]  # turns that wait for the engine, by class of priority, over all decoders
    engine_running: int | None
    kv_cache_use: float | None
    joules: float | None  # of the processor
    cards: tuple[Card, ...] = ()


@dataclass
class Watch:
    """All looks."""

    target: Target
    looks: list[Look] = field(default_factory=list)

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            self.looks.append(await self.look())
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> Look:
        """The stack as it is now."""
        at, taken = time.time(), await asyncio.to_thread(usage, self.target.leaders())
        lags = await asyncio.gather(*(probe.lag(url) for url in self.target.urls.values()))
        told = [
            json.loads(answer.body)
            for answer in await asyncio.gather(
                *(probe.readiness(url) for name, url in self.target.urls.items() if name.startswith("decoder"))
            )
            if answer.status is not None and answer.body.startswith("{")
        ]
        waiting: dict[str, int] = {}
        for each in told:
            for priority, number in each.get("waiting_by_priority", {}).items():
                waiting[priority] = waiting.get(priority, 0) + number
        running = [each["engine_running"] for each in told if "engine_running" in each]
        cache = [each["kv_cache_use"] for each in told if "kv_cache_use" in each]
        return Look(
            at,
            taken,
            {name: lag for name, lag in zip(self.target.urls, lags, strict=True) if lag is not None},
            waiting,
            sum(running) if running else None,
            max(cache) if cache else None,
            joules(),
            await asyncio.to_thread(cards),
        )


async def watched(watch: Watch, work: "asyncio.Task[object]") -> None:
    """Watches for as long as `work` takes, and looks once more. Raises: what `work` raises."""
    watching = asyncio.create_task(watch.run(), name="watch")
    try:
        await work
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    watch.looks.append(await watch.look())
