"""`python -m services.decomposer`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conclave.runtime.attempts import Dependencies
from conclave.runtime.handling import Work
from conclave.runtime.kafka import Kafka
from conclave.runtime.process import Parts, main
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings, load
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings


@asynccontextmanager
async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
    """The decomposer, which knows a request published twice."""
    decomposer = Decomposer(load(DecomposerSettings))
    work = Work(handler=decomposer, request_key=decomposer.request_key)
    service = Service("decomposer", settings, work, dependencies, Kafka(settings.bootstrap_servers))
    yield Parts(service, listener=decomposer)


if __name__ == "__main__":
    sys.exit(main("decomposer", compose))
