"""`python -m services.aggregator`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conclave.runtime.attempts import Dependencies
from conclave.runtime.kafka import Kafka
from conclave.runtime.process import Parts, main
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings, load
from conclave.runtime.work import Joins
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings


@asynccontextmanager
async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
    """The aggregator."""
    work = Joins(Aggregator(load(AggregatorSettings)))
    yield Parts(Service("aggregator", settings, work, dependencies, Kafka(settings.brokers)))


if __name__ == "__main__":
    sys.exit(main("aggregator", compose, AggregatorSettings))
