"""How much of a model server's rate limit the whole pipeline uses: `python -m benchmarks.model_server`.

A broker of its own and every service in this process, 500 requests of one path each. First on a server that takes every call, to
see what the services can carry here; then on one that takes an eighth of that, in the first half of each second, and refuses all
other calls, with a Retry-After or without one. Once a third is answered it is dead for a minute. The share is of the calls that
the limit allowed while the server was there, from the first call that it took to the last.
"""

import asyncio
import json
import logging
import tempfile
from pathlib import Path

import structlog

from benchmarks.measuring import record
from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime.kafka import Kafka
from conclave.runtime.topics import ensure_topics
from schemas.events import AnswerReached
from tests.rate_limited import Run, run

_NUM_REQUESTS, _OUTAGE_S = 500, 60.0
_NO_LIMIT = 1_000_000
_JARS = Path(".conclave") / "jars"


async def main() -> None:
    """Runs each kind of server once and writes the results down."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    free = await _run(limit=_NO_LIMIT, outage_s=0.0, open_s=1.0)
    capacity = free.used * _NO_LIMIT
    limit = max(2, int(capacity / 8))
    print(f"without a limit {capacity:.0f} calls a second, so the limit is {limit}", flush=True)
    result = {
        "calls_per_s_without_limit": round(capacity, 1),
        "Retry-After": _figures(limit, await _run(limit=limit, outage_s=_OUTAGE_S)),
        "no Retry-After": _figures(limit, await _run(limit=limit, outage_s=_OUTAGE_S, tells_when=False)),
    }
    print(json.dumps(result, indent=2), record("model_server", result), sep="\n")


async def _run(*, limit: int, outage_s: float, tells_when: bool = True, open_s: float = 0.5) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        broker = KafkaBroker(Path(folder) / "kafka", jars_dir=_JARS)
        await broker.start()
        try:
            await ensure_topics(str(broker.endpoint), partitions=2)
            kafka = Kafka(str(broker.endpoint))
            return await run(
                lambda name: kafka,
                num_requests=_NUM_REQUESTS,
                limit=limit,
                outage_s=outage_s,
                tells_when=tells_when,
                open_s=open_s,
            )
        finally:
            await broker.stop()


def _figures(limit: int, found: Run) -> dict[str, float]:
    return {
        "requests": _NUM_REQUESTS,
        "answered": sum(isinstance(end, AnswerReached) for end in found.answers.values()),
        "limit_per_s": limit,
        "outage_s": _OUTAGE_S,
        "calls_taken": found.num_taken,
        "calls_refused": found.num_refused,
        "share_of_limit": round(found.used, 3),
    }


if __name__ == "__main__":
    asyncio.run(main())
