"""Strangers' Kafka clients, which know of Conclave no more than the JSON Schema of a request, each get an answer."""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import confluent_kafka
import pytest
from jsonschema import Draft202012Validator

from conclave.local.servers.jars import locked_jars
from conclave.local.servers.kafka import KafkaBroker, java
from conclave.testing.pipeline import Pipeline
from schemas.ids import new_request_id
from tests.integration.conftest import own_broker

_HERE = Path(__file__).resolve().parent
_NEEDED = ("decomposer", "decoder", "voter", "aggregator")
_OF_JAVA_S_CLIENT = ("kafka-clients", "slf4j-api", "lz4-java")
_LIMIT_S = 60.0


@pytest.fixture(scope="module")
def broker(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """A broker of this module alone."""
    with own_broker(session_dir / "kafka-foreign", jars_dir, partitions=2) as broker:
        yield broker


@pytest.fixture
async def address(broker: KafkaBroker, fresh_database: str, tmp_path: Path) -> AsyncIterator[str]:
    """Where the broker is, with the services that it takes to answer."""
    pipeline = Pipeline(broker, fresh_database, tmp_path, {"CONCLAVE_SCRIPTED_LATENCY_MS": "1"})
    try:
        for name in _NEEDED:
            await pipeline.add(name)
        await pipeline.until_ready()
        yield pipeline.address
    finally:
        await pipeline.stop()


def validated(schema: str, document: str) -> str:
    """The document, which the JSON Schema takes."""
    path = _HERE.parents[1] / "schemas" / "json" / f"{schema}.json"
    Draft202012Validator(json.loads(path.read_text())).validate(json.loads(document))
    return document


def request(request_id: str) -> str:
    asked = {"question": "How much is 2 + 2?", "request_id": request_id, "max_samples": 4, "tags": {"from": "afar"}}
    return validated("ReasoningRequested", json.dumps(asked))


def check(answer: str, request_id: str) -> None:
    """The answer to that request, by its schema."""
    read = json.loads(validated("AnswerReached", answer))
    assert read["request_id"] == request_id
    assert read["answer"]
    assert 1 <= read["num_paths"] <= 4


@pytest.mark.timeout(150)
async def test_a_client_on_librdkafka_gets_an_answer(address: str) -> None:
    request_id = str(new_request_id())
    check(await asyncio.to_thread(_ask_by_librdkafka, address, request(request_id), request_id), request_id)


@pytest.mark.timeout(150)
@pytest.mark.skipif(shutil.which("javac") is None, reason="needs a compiler of Java")
async def test_java_s_client_gets_an_answer(address: str, jars_dir: Path, tmp_path: Path) -> None:
    jars = [str(jar.path_in(jars_dir)) for jar in locked_jars() if jar.artifact in _OF_JAVA_S_CLIENT]
    classpath = ":".join([str(tmp_path), *jars])
    await _run("javac", "--release", "17", "-cp", classpath, "-d", str(tmp_path), str(_HERE / "AskFromJava.java"))
    request_id = str(new_request_id())
    told = await _run(str(java()), "-cp", classpath, "AskFromJava", address, request(request_id), request_id)
    check(told, request_id)


def _ask_by_librdkafka(address: str, asked: str, request_id: str) -> str:
    """The answer to the request. Blocks."""
    producer = confluent_kafka.Producer({"bootstrap.servers": address})
    producer.produce("reasoning.requests", value=asked)
    assert producer.flush(_LIMIT_S) == 0
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": address, "group.id": "afar", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    try:
        consumer.subscribe(["reasoning.answers"])
        until = time.monotonic() + _LIMIT_S
        while time.monotonic() < until:
            message = consumer.poll(1.0)
            told = "" if message is None or message.error() else bytes(message.value() or b"").decode()
            if request_id in told:
                return told
    finally:
        consumer.close()
    raise AssertionError("no answer within a minute")


async def _run(*command: str) -> str:
    """What a program writes. Raises: AssertionError where it fails."""
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
