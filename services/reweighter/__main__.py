"""`python -m services.reweighter`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conclave.runtime.attempts import Dependencies
from conclave.runtime.kafka import Kafka
from conclave.runtime.process import Parts, main
from conclave.runtime.settings import RuntimeSettings, load
from conclave.store.learning import Learning
from services.reweighter.reweighter import Reweighter
from services.reweighter.settings import ReweighterSettings


@asynccontextmanager
async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
    """The reweighter over the record."""
    own = load(ReweighterSettings)
    learning = Learning(own.postgres_dsn)
    reweighter = Reweighter(learning, Kafka(settings.brokers), dependencies, interval_s=own.reweighter_interval_s)
    try:
        yield Parts(reweighter, status=reweighter.status)
    finally:
        await learning.close()


if __name__ == "__main__":
    sys.exit(main("reweighter", compose, ReweighterSettings))
