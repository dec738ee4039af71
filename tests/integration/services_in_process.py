"""Services of the runtime, run inside a test: one with a handler of the test's own, or all of them as they are."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from conclave.runtime.attempts import Dependencies
from conclave.runtime.kafka import Kafka
from conclave.runtime.process import Parts
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings
from conclave.runtime.work import Work
from conclave.testing.waiting import until
from schemas import flow


def _settings(bootstrap_servers: str, **settings: object) -> RuntimeSettings:
    values = {"bootstrap_servers": bootstrap_servers, "session_timeout_ms": 6000, "drain_s": 5.0, **settings}
    return RuntimeSettings.model_validate(values)


@asynccontextmanager
async def running(name: str, bootstrap_servers: str, work: Work, **settings: object) -> AsyncIterator[Service]:
    """A service that is ready, and drained at the end."""
    broker = Kafka(bootstrap_servers)
    service = Service(name, _settings(bootstrap_servers, **settings), work, Dependencies(), broker)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.run())
        try:
            await until(lambda: service.is_ready, what=f"readiness of {name}")
            yield service
        finally:
            service.stop()


@asynccontextmanager
async def all_running(bootstrap_servers: str, **settings: object) -> AsyncIterator[dict[str, Parts]]:
    """Every service but what serves the web once, composed as its process composes it, with settings of the environment."""
    async with AsyncExitStack() as stack:
        parts: dict[str, Parts] = {}
        for row in (row for row in flow.SERVICES.values() if not row.serves_web):
            compose = importlib.import_module(f"services.{row.name}.__main__").compose
            composed = compose(_settings(bootstrap_servers, **settings), Dependencies())
            parts[row.name] = await stack.enter_async_context(composed)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        for name, each in parts.items():
            tasks.create_task(each.consumer.run(), name=name)
        try:
            for name, each in parts.items():
                await until(lambda each=each: each.consumer.is_ready, what=f"readiness of {name}")  # type: ignore[misc]
            yield parts
        finally:
            for each in parts.values():
                each.consumer.stop()
