"""Kills parts of a stack in the middle of a load, and starts them again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

Kill = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Killed:
    """A part that was killed, and when the whole stack was ready again; seconds since 1970."""

    part: str
    at: float
    back: float


async def kill_in_turn(kill: Kill, parts: Sequence[str], seconds: float) -> list[Killed]:
    """Kills one after the other, spread evenly over so long; each is back before the next one goes."""
    began, killed = time.monotonic(), []
    for number, part in enumerate(parts, 1):
        due = began + seconds * number / (len(parts) + 1)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        at = time.time()
        await kill(part)
        killed.append(Killed(part, at, time.time()))
    return killed
