"""Waiting for a condition, with a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool], *, limit_s: float = 30.0, what: str = "the condition") -> None:
    """Returns as soon as `condition` holds. Raises: AssertionError after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not hold within {limit_s} s"
        await asyncio.sleep(0.02)


async def until_async(condition: Callable[[], Awaitable[bool]], *, limit_s: float = 30.0, what: str = "it") -> None:
    """The same, for a condition that has to ask."""
    deadline = time.monotonic() + limit_s
    while not await condition():
        assert time.monotonic() < deadline, f"{what} did not hold within {limit_s} s"
        await asyncio.sleep(0.1)
