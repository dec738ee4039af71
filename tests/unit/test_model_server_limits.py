"""All services on a broker in memory, and a model server that refuses calls in bursts and is dead for a while."""

import asyncio
import random
import time

from conclave.testing.broker import MemoryBroker
from conclave.testing.cluster import Cluster
from conclave.testing.network import Endpoint
from schemas import flow
from schemas.events import AnswerReached, PathDecoded
from schemas.flow import Topic
from tests.rate_limited import run

NUM_REQUESTS = 40


async def test_every_request_is_answered_and_nothing_is_dead_lettered() -> None:
    loop = asyncio.get_running_loop()
    topics = {topic.value: 2 for topic in Topic} | {flow.dead_letter_topic(topic): 1 for topic in Topic}
    start_ms = int((time.time() - loop.time()) * 1000)
    cluster = Cluster(loop, random.Random(7), topics, start_ms)
    found = await run(
        lambda name: MemoryBroker(cluster, Endpoint(name)), num_requests=NUM_REQUESTS, limit=20, outage_s=0.5
    )
    assert len(found.answers) == NUM_REQUESTS
    assert all(isinstance(end, AnswerReached) and end.answer == "42" for end in found.answers.values())
    assert [type(path) for path in found.heard.paths] == [PathDecoded] * NUM_REQUESTS, "one terminal event a sample"
    assert found.heard.num_dead_letters == 0
    assert found.num_refused > 0
