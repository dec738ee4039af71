"""Services of the runtime, run inside a test with handlers of the test's own."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from conclave.runtime.attempts import Dependencies
from conclave.runtime.handling import Work
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings


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


@asynccontextmanager
async def running(name: str, bootstrap_servers: str, work: Work, **settings: object) -> AsyncIterator[Service]:
    """A service that is ready, and drained at the end."""
    values = {"bootstrap_servers": bootstrap_servers, "session_timeout_ms": 6000, "drain_s": 5.0, **settings}
    service = Service(name, RuntimeSettings.model_validate(values), work, Dependencies())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.run())
        try:
            await until(lambda: service.is_ready, what=f"readiness of {name}")
            yield service
        finally:
            service.stop()
