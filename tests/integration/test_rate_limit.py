"""All services on a real Kafka, and a model server that refuses calls in bursts and is away for a while."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime.kafka import Kafka
from schemas.events import AnswerReached, PathDecoded
from tests.integration.conftest import own_broker
from tests.rate_limited import run

NUM_REQUESTS = 60

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def broker(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """Of this test alone: what it counts is in the whole log."""
    with own_broker(session_dir / "kafka-rate-limit", jars_dir, partitions=2) as broker:
        yield broker


async def test_every_request_is_answered_and_nothing_is_dead_lettered(broker: KafkaBroker) -> None:
    kafka = Kafka(str(broker.endpoint))
    found = await run(lambda name: kafka, num_requests=NUM_REQUESTS, limit=20, outage_s=2.0)
    assert len(found.answers) == NUM_REQUESTS
    assert all(isinstance(end, AnswerReached) and end.answer == "42" for end in found.answers.values())
    assert [type(path) for path in found.heard.paths] == [PathDecoded] * NUM_REQUESTS, "one terminal event a sample"
    assert found.heard.num_dead_letters == 0
    assert found.num_refused > 0
