"""Every shape in which producers publish requests, through a real broker to the record: each ends as the table says."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime import dead_letters
from conclave.runtime.client import Client
from conclave.runtime.dead_letters import DeadLetter
from conclave.runtime.kafka import LogReader
from conclave.runtime.record import Output
from conclave.testing.pipeline import Pipeline
from schemas import codec, flow
from schemas.codec import Defect
from schemas.envelope import Headers, header
from schemas.events import AnswerReached, Event, RequestFailed
from schemas.flow import Topic
from schemas.ids import derived_request_id, new_request_id
from tests.integration.conftest import own_broker
from tests.producer_shapes import SHAPES, Answered, Dead, Shape, Told

REQUESTS = Topic.REQUESTS.value
DEAD_LETTERS = flow.dead_letter_topic(REQUESTS)


@pytest.fixture(scope="module")
def broker(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """A broker of this module alone: its answers and dead letters are counted."""
    with own_broker(session_dir / "kafka-shapes", jars_dir, partitions=2) as broker:
        yield broker


@pytest.fixture
async def pipeline(broker: KafkaBroker, fresh_database: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """Every service once."""
    settings = {"CONCLAVE_SCRIPTED_LATENCY_MS": "1"}
    async with Pipeline(broker, fresh_database, tmp_path, settings).running() as pipeline:
        yield pipeline


@dataclass
class Sent:
    """A shape as it was published: the trace that marks all that follows from it, and the id a request there would get."""

    shape: Shape
    request_id: str
    trace: str
    derived_id: str = ""
    answers: list[Event] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """True when all that the table wants has come."""
        end = self.shape.end
        if isinstance(end, Answered):
            return bool(self.answers)
        return bool(self.letters) and bool(self.answers) is (end.told is not Told.NOBODY)

    def check(self) -> None:
        """What came is what the table says, once."""
        end = self.shape.end
        ids = [event.request_id for event in self.answers if isinstance(event, AnswerReached | RequestFailed)]
        failures = [event for event in self.answers if isinstance(event, RequestFailed)]
        if isinstance(end, Answered):
            assert (len(self.answers), failures, self.letters) == (1, [], []), self
            assert not end.has_own_id or ids == [self.request_id], self
            return
        assert [(letter.field, letter.reason) for letter in self.letters] == [(end.field, str(end.reason))], self
        assert len(failures) == len(ids) == (end.told is not Told.NOBODY), self
        match end.told:
            case Told.OWN:
                assert ids == [self.request_id], self
            case Told.ITS_OWN:
                key, _, _ = self.shape.bytes_with(self.request_id)
                assert ids == [(key or b"").decode()], self
            case Told.ANOTHER:
                assert ids == [self.derived_id], self


async def _publish(address: str, number: int, shape: Shape, request_id: str | None = None) -> Sent:
    sent = Sent(shape, request_id or str(new_request_id()), f"{number + 1:032x}")
    key, value, headers = shape.bytes_with(sent.request_id)
    if value and b'"traceparent": "00-' in value:
        sent.trace = "a" * 32  # the producer's own goes before the header
    traceparent = ("traceparent", f"00-{sent.trace}-00f067aa0ba902b7-01".encode())
    producer = AIOKafkaProducer(
        bootstrap_servers=address,
        compression_type=shape.compression,
        max_request_size=1_500_000,
        enable_idempotence=True,
    )
    await producer.start()
    try:
        metadata = await producer.send_and_wait(REQUESTS, key=key, value=value, headers=[traceparent, *headers])
    finally:
        await producer.stop()
    sent.derived_id = str(derived_request_id(metadata.timestamp, f"{REQUESTS}/{metadata.partition}/{metadata.offset}"))
    return sent


def _trace_of(headers: tuple[tuple[str, bytes], ...]) -> str:
    return (header(headers, "traceparent") or "").partition("-")[2][:32]


async def _collect(address: str, all_sent: list[Sent], same: list[list[Sent]], limit_s: float) -> None:
    """Reads answers and dead letters until all is over that is to come, and a little longer for what is not."""
    everything = [*all_sent, *(sent for group in same for sent in group)]
    by_trace = {sent.trace: sent for sent in everything}
    by_id = {sent.derived_id: sent for sent in everything}
    reader = LogReader(address)
    await reader.start()
    try:
        partitions = [tp for topic in (Topic.ANSWERS.value, DEAD_LETTERS) for tp in await reader.partitions(topic)]
        reader.assign(await reader.begin_offsets(partitions))
        ends_at = time.monotonic() + limit_s
        while time.monotonic() < ends_at:
            for record in await reader.poll(timeout_ms=500):
                if record.topic == DEAD_LETTERS:
                    by_trace[_trace_of(record.headers)].letters.append(dead_letters.read(record))
                    continue
                event = codec.read(record.topic, record.headers, record.value)
                assert isinstance(event, AnswerReached | RequestFailed)
                (by_trace.get(_trace_of(record.headers)) or by_id[event.request_id]).answers.append(event)
            if all(sent.is_over for sent in all_sent) and all(any(sent.is_over for sent in group) for group in same):
                ends_at = min(ends_at, time.monotonic() + 3.0)
    finally:
        await reader.stop()


# Groups of records that are one request each: of one CloudEvents source and id, and of one idempotency key.
_STRUCTURED = (("content-type", b"application/cloudevents+json"),)
_EVENT = b'{"specversion": "1.0", "id": "1", "source": "/%s", "data": {"question": "%d + 3?"}}'
_ONCE = Answered()
_SAME: tuple[tuple[Shape, ...], ...] = (
    (
        Shape("structured", _EVENT % (b"one", 1), _ONCE, headers=_STRUCTURED),
        Shape("structured, another question and key", _EVENT % (b"one", 2), _ONCE, b"k", _STRUCTURED),
        Shape("binary", b'{"question": "4 + 3?"}', _ONCE, b"l", (("ce_id", b"1"), ("ce_source", b"/one"))),
    ),
    (Shape("the same id of another source", _EVENT % (b"two", 1), _ONCE, headers=_STRUCTURED),),
    tuple(
        Shape(f"an idempotency key under {key!r}", b'{"question": "q", "idempotency_key": "order 99"}', _ONCE, key)
        for key in (None, b"m", b"order 99")
    ),
)


# What comes after a request under its key, can't be read, and must not end it: K09 and its like.
_AFTERWARDS: tuple[Shape, ...] = (
    Shape(
        "a request under its id", b'{"question": "5 + 3?", "request_id": "<id>"}', Answered(has_own_id=True), b"<id>"
    ),
    Shape("a tombstone under its id", None, Dead("$", Defect.UNDECODABLE), b"<id>"),
    Shape("half a document under its id", b'{"question', Dead("$", Defect.UNDECODABLE), b"<id>"),
    Shape("an unreadable request with its id", b'{"question": 1, "request_id": "<ID>"}', Dead("$.question"), b"<id>"),
)


@pytest.mark.timeout(280)
async def test_every_shape_ends_as_the_table_says_and_what_is_one_request_is_answered_once(pipeline: Pipeline) -> None:
    address = pipeline.address
    all_sent = [await _publish(address, number, shape) for number, shape in enumerate(SHAPES)]
    request_id = str(new_request_id())
    all_sent += [
        await _publish(address, 10_000 + number, shape, request_id) for number, shape in enumerate(_AFTERWARDS)
    ]
    same = [
        [await _publish(address, 1000 * start + number, shape) for number, shape in enumerate(group)]
        for start, group in enumerate(_SAME, 1)
    ]
    await _collect(address, all_sent, same, limit_s=120)
    missing = [(sent.shape.name, sent.answers, sent.letters) for sent in all_sent if not sent.is_over]
    assert not missing, f"{len(missing)} of {len(all_sent)} did not end: {missing[:5]}"
    for sent in all_sent:
        sent.check()
    for group in same:
        assert sum(len(sent.answers) for sent in group) == 1, group
        assert not any(sent.letters for sent in group), group
    for service in pipeline.services.values():
        assert await service.is_ready(), service.name
    told = [sent for sent in all_sent if isinstance(sent.shape.end, Dead) and sent.answers]
    await _check_feedback(pipeline)
    num_answers = sum(len(sent.answers) for sent in all_sent) + len(same)
    await _until_recorded(pipeline.dsn, num_answers, len(told))


_REWARD = b'{"request_id": "<id>", "reward": %s}'
_WEB, _MOBILE = ((("ce_source", source), ("ce_id", b"1")) for source in (b"/shop/web", b"/shop/mobile"))
# Feedback, and the rewards that it leaves in the record: the field collection's F01 to F07.
_FEEDBACK: tuple[tuple[str, bytes, Headers], ...] = (
    ("web", _REWARD % b"true", _WEB),
    ("web again", _REWARD % b"true", _WEB),
    ("mobile, the same id", _REWARD % b"0.0", _MOBILE),
    (
        "web, structured",
        b'{"specversion": "1.0", "id": "1", "source": "/shop/web", "data": ' + _REWARD % b"1" + b"}",
        _STRUCTURED,
    ),
    (
        "mind changed",
        b'{"specversion": "1.0", "id": "2", "source": "/shop/web", "data": ' + _REWARD % b"0.25" + b"}",
        (),
    ),
    ("without an id", _REWARD % b"0.5", ()),
    ("without an id again", _REWARD % b"0.5", ()),
    ("an id of 8,000 characters", _REWARD % b"0.75", (("ce_source", b"/s"), ("ce_id", b"x" * 8000))),
    ("in capitals, nulls", b'{"request_id": "<ID>", "reward": 1, "comment": null, "source": null}', (("ce_id", b"9"),)),
    ("thumbs down as -1", _REWARD % b"-1", ()),
    ("a comment only", b'{"request_id": "<id>", "comment": "well"}', ()),
)
_REWARDS = [0.0, 0.25, 0.5, 0.5, 0.75, 1.0, 1.0, None]  # a comment says nothing of its worth


async def _check_feedback(pipeline: Pipeline) -> None:
    request_id = str(new_request_id())
    async with Client(pipeline.address) as client:
        records = []
        for name, value, headers in _FEEDBACK:
            _, spelled, _ = Shape(name, value, Answered()).bytes_with(request_id)
            records.append(Output(Topic.FEEDBACK.value, request_id.encode(), spelled, headers))
        await client.publish_raw(records)
        connection = await asyncpg.connect(pipeline.dsn)
        query = "SELECT reward, is_latest FROM given_feedback WHERE request_id = $1 ORDER BY reward"
        try:
            async with asyncio.timeout(30):
                while len(rows := await connection.fetch(query, uuid.UUID(request_id))) < len(_REWARDS):
                    await asyncio.sleep(0.2)
        finally:
            await connection.close()
        assert [row["reward"] for row in rows] == _REWARDS
        assert sum(row["is_latest"] for row in rows) == 1
        letters = [letter.field for letter in await client.dead_letters(Topic.FEEDBACK)]
        assert letters == ["$.reward"]


async def _until_recorded(dsn: str, num_answers: int, num_failures: int) -> None:
    """Waits until every answer has its row: those of ids from 1970 too."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(30):
            while await connection.fetchval("SELECT count(*) FROM answers") < num_answers:
                await asyncio.sleep(0.2)
        assert await connection.fetchval("SELECT count(*) FROM answers") == num_answers
        assert await connection.fetchval("SELECT count(*) FROM failed_requests WHERE message <> ''") == num_failures
    finally:
        await connection.close()
