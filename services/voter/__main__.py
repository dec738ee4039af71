"""`python -m services.voter`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conclave.judges.pool import JudgePool
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
    """The voter, with judges that start once a vote asks for them."""
    own = load(VoterSettings)
    judge = JudgePool(limit_s=own.voter_judge_limit_s, num_processes=own.voter_judges)
    try:
        work = Joins(Voter(own, judge.known))
        yield Parts(Service("voter", settings, work, dependencies, Kafka(settings.brokers)))
    finally:
        judge.close()


if __name__ == "__main__":
    sys.exit(main("voter", compose, VoterSettings))
