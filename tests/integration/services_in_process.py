"""Services of the runtime, run inside a test with handlers of the test's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conclave.runtime.attempts import Dependencies
from conclave.runtime.handling import Work
from conclave.runtime.kafka import Kafka
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings
from conclave.testing.waiting import until


@asynccontextmanager
async def running(name: str, bootstrap_servers: str, work: Work, **settings: object) -> AsyncIterator[Service]:
    """A service that is ready, and drained at the end."""
    values = {"bootstrap_servers": bootstrap_servers, "session_timeout_ms": 6000, "drain_s": 5.0, **settings}
    service = Service(name, RuntimeSettings.model_validate(values), work, Dependencies(), Kafka(bootstrap_servers))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(service.run())
        try:
            await until(lambda: service.is_ready, what=f"readiness of {name}")
            yield service
        finally:
            service.stop()
