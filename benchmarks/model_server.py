"""How much of a model server's rate limit the whole pipeline uses: `python -m benchmarks.model_server`.

A broker of its own and every service in this process, 500 requests of one path each, on a server that takes 40 calls in the first
half of each second and refuses all others, with a Retry-After or without one; once a third is answered it is dead for a minute.
The share is of the calls that the limit allowed while the server was there, from the first call that it took to the last.
"""

import asyncio
import logging
import tempfile
from pathlib import Path

import structlog

from benchmarks.measuring import record
from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime.kafka import Kafka
from conclave.runtime.topics import ensure_topics
from schemas.events import AnswerReached
from tests.rate_limited import run

_NUM_REQUESTS, _LIMIT, _OUTAGE_S = 500, 40, 60.0
_JARS = Path(".conclave") / "jars"


async def main() -> None:
    """Runs each kind of server once and writes the results down."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    results = {
        name: await _share(tells_when=tells) for name, tells in (("Retry-After", True), ("no Retry-After", False))
    }
    print(results, record("model_server", results), sep="\n")


async def _share(*, tells_when: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        broker = KafkaBroker(Path(folder) / "kafka", jars_dir=_JARS)
        await broker.start()
        try:
            await ensure_topics(str(broker.endpoint), partitions=2)
            kafka = Kafka(str(broker.endpoint))
            found = await run(
                lambda name: kafka,
                num_requests=_NUM_REQUESTS,
                limit=_LIMIT,
                outage_s=_OUTAGE_S,
                tells_when=tells_when,
            )
        finally:
            await broker.stop()
    result = {
        "requests": _NUM_REQUESTS,
        "answered": sum(isinstance(end, AnswerReached) for end in found.answers.values()),
        "limit_per_s": _LIMIT,
        "outage_s": _OUTAGE_S,
        "calls_taken": found.num_taken,
        "calls_refused": found.num_refused,
        "share_of_limit": round(found.used, 3),
    }
    print(result, flush=True)
    return result


if __name__ == "__main__":
    asyncio.run(main())
