"""`python -m services.voter`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conclave.runtime.attempts import Dependencies
from conclave.runtime.kafka import Kafka
from conclave.runtime.process import Parts, main
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings, load
from conclave.runtime.work import Joins
from services.voter.joiner import Voter
from services.voter.settings import VoterSettings


@asynccontextmanager
async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
    """The voter."""
    work = Joins(Voter(load(VoterSettings)))
    yield Parts(Service("voter", settings, work, dependencies, Kafka(settings.bootstrap_servers)))


if __name__ == "__main__":
    sys.exit(main("voter", compose, VoterSettings))
