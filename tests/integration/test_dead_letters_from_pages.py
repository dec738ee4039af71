"""Dead letters on real servers, from the gateway's pages: shown, replayed under somebody's name, and handled anew."""

import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from conclave.local.machine.ports import free_port
from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime import dead_letters
from conclave.runtime.dead_letters import Cause, Reason
from conclave.runtime.kafka import PlainProducer
from conclave.runtime.record import Output, output_of
from conclave.testing.log import StoredRecord
from conclave.testing.pipeline import Pipeline
from conclave.testing.waiting import until_async
from schemas.events import ReasoningRequested
from schemas.flow import Topic
from schemas.ids import new_request_id
from tests.integration.conftest import own_broker

HERE = {"Sec-Fetch-Site": "same-origin"}
LIST = "/system/dead-letters"
SECRET = "sk-" + "a1B2" * 12


@pytest.fixture(scope="module")
def broker(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """A broker of this module alone: its dead letters are counted."""
    with own_broker(session_dir / "kafka-letters", jars_dir, partitions=2) as broker:
        yield broker


@pytest.fixture
async def pipeline(broker: KafkaBroker, fresh_database: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """Every service once."""
    settings = {"CONCLAVE_GATEWAY_PORT": str(free_port())}
    async with Pipeline(broker, fresh_database, tmp_path, settings).running() as pipeline:
        yield pipeline


async def _publish(broker: KafkaBroker, *outputs: Output) -> None:
    producer = PlainProducer(broker.endpoint)
    await producer.start()
    try:
        await producer.publish(list(outputs))
    finally:
        await producer.stop()


async def test_a_dead_letter_is_replayed_from_the_pages_and_handled_anew(
    pipeline: Pipeline, broker: KafkaBroker
) -> None:
    request_id, now_ms = str(new_request_id()), time.time_ns() // 1_000_000
    asked = output_of(
        ReasoningRequested(question="How much is 6 times 6?", request_id=request_id),
        service="tests",
        event_id=uuid.uuid4().hex,
        parent=None,
        now_ms=now_ms,
    )
    wrong = Output(Topic.REQUESTS.value, b"wrong", f'{{"question": ["{SECRET}"]}}'.encode(), ())
    sound = StoredRecord(asked.topic, 0, 7, now_ms, asked.key, asked.value, asked.headers)
    cause = Cause(Reason.HANDLER, "a mistake that is mended since")
    await _publish(broker, wrong, dead_letters.dead_letter(sound, cause, service="decomposer", now_ms=now_ms))
    url = f"http://127.0.0.1:{pipeline.settings['CONCLAVE_GATEWAY_PORT']}"
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:

        async def letters() -> list[str]:
            """Their ids by what they died of: the list is read from the log every five seconds."""
            return re.findall(rf'href="{LIST}/([^"]+)"', (await client.get(LIST)).text)

        async def are(number: int) -> bool:
            return len(set(await letters())) == number

        await until_async(lambda: are(2), what="both letters", limit_s=60)
        pages = {each: (await client.get(f"{LIST}/{each}")).text for each in set(await letters())}
        assert not any(SECRET in page for page in pages.values())
        (mended,) = [each for each, page in pages.items() if "mended since" in page]
        (still_wrong,) = pages.keys() - {mended}
        for each in (mended, still_wrong):
            refused = await client.post(f"{LIST}/replay", data={"letter_id": each})
            assert refused.status_code == 403, "no page of ours sent it"
            replayed = await client.post(f"{LIST}/replay", data={"letter_id": each}, headers=HERE)
            assert (replayed.status_code, replayed.headers["location"]) == (303, f"{LIST}/{each}")
            shown = (await client.get(replayed.headers["location"])).text
            assert "Replay again" in shown
            assert "local" in shown
        state = (await client.get(f"/v1/requests/{request_id}", params={"wait_s": 60})).json()
        assert state["status"] == "answered"
        await until_async(lambda: are(3), what="the wrong one, which died again", limit_s=60)
