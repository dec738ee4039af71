"""`python -m services.recorder`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conclave.runtime.attempts import Dependencies
from conclave.runtime.kafka import Kafka
from conclave.runtime.process import Parts, main
from conclave.runtime.settings import RuntimeSettings, load
from conclave.runtime.sink import Sink
from conclave.store.roll_ups import RollUps
from conclave.store.store import Store
from services.recorder.settings import RecorderSettings


@asynccontextmanager
async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
    """The recorder with its store, and what adds up hours for analysts."""
    own = load(RecorderSettings)
    store = Store(own.postgres_dsn, ahead_days=own.partitions_ahead_days, retention_days=own.retention_days)
    adding_up = asyncio.create_task(RollUps(own.postgres_dsn).follow(), name="roll-ups")
    try:
        yield Parts(Sink("recorder", settings, store, dependencies, Kafka(settings.brokers)))
    finally:
        adding_up.cancel()
        await asyncio.wait({adding_up})
        await store.close()


if __name__ == "__main__":
    sys.exit(main("recorder", compose, RecorderSettings))
