"""Whatever size a broker takes, no record stops a partition: each ends, and all requests around it are answered."""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from conclave.domain import planning
from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime import dead_letters
from conclave.runtime.client import Client
from conclave.runtime.dead_letters import DeadLetter
from conclave.runtime.kafka import LogReader
from conclave.runtime.limits import MAX_BATCH_BYTES
from conclave.testing import events as made
from conclave.testing.waiting import until_async
from schemas import codec, flow
from schemas.envelope import Headers, header
from schemas.events import (
    AnswerReached,
    Event,
    FeedbackGiven,
    PathDecoded,
    PathFailed,
    ReasoningRequested,
    RequestFailed,
    StepDecided,
)
from schemas.flow import Topic
from schemas.ids import new_request_id
from schemas.values import RequestFailure
from tests.integration.conftest import own_broker
from tests.integration.services_in_process import all_running

NUM_REQUESTS = 500
MB = 1_000_000
ATTACKED = [row.topic for row in flow.TOPICS if not row.is_broadcast]
PLAIN_BYTES = (0, MB, 1_400_000, 1_600_000, 2 * MB)
PACKED_BYTES = (10 * MB,)  # as a compressed batch of some kilobytes


@dataclass(frozen=True)
class Shot:
    """An oversized record, and of what request it is if it can be read at all."""

    topic: Topic
    value: bytes | None
    key: bytes
    is_packed: bool = False
    headers: Headers = ()
    request_id: str | None = None


@dataclass(frozen=True)
class Fired:
    """A shot, and where it lies."""

    shot: Shot
    partition: str
    offset: int

    @property
    def coordinates(self) -> str:
        return f"{self.partition}/{self.offset}"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """All services log in this one process: what is no warning costs more than the work."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def broker(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """A broker of this module alone."""
    with own_broker(session_dir / "kafka-too-large", jars_dir, partitions=2) as broker:
        yield broker


def _event(topic: Topic, request_id: str) -> Event:
    """An event of the topic that makes sense."""
    now_ms = int(time.time() * 1000)
    context = made.context(made.ask("single"), request_id=request_id, deadline_ms=now_ms + 20_000)
    match topic:
        case Topic.REQUESTS:
            return ReasoningRequested(question="How large is this?", request_id=request_id, policy="single")
        case Topic.STEPS:
            return made.verdict(request_id=request_id, decided_ms=now_ms)
        case Topic.SAMPLES:
            return planning.wave(context, 0, 1)[0]
        case Topic.PATHS:
            return made.decoded(context, 0, 1, "4")
        case Topic.ANSWERS:
            return RequestFailed(request_id=request_id, failure=RequestFailure.NO_ANSWER, message="m")
        case _:
            return FeedbackGiven(request_id=request_id, reward=1.0)


def _valid(topic: Topic, num_bytes: int, *, is_packed: bool = False) -> Shot:
    """An event in so many bytes: JSON may be padded with blanks."""
    event = _event(topic, str(new_request_id()))
    key = flow.key_of(event)
    headers = (("ce_type", codec.versioned_type(type(event)).encode()),)
    value = codec.encode(event).ljust(num_bytes)
    return Shot(topic, value, key.encode(), is_packed, headers, key.partition("/")[0])


def _invalid(topic: Topic, num_bytes: int, *, is_packed: bool = False) -> Shot:
    return Shot(topic, b'{"question": "%s"}' % (b"x" * max(0, num_bytes - 16)), b"k", is_packed)


def _largest(topic: Topic, *, is_valid: bool) -> Shot:
    """A record whose batch is as large as the broker takes, to the byte."""
    shot = _valid(topic, 2 * MB) if is_valid else _invalid(topic, 2 * MB)
    batch = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 30)
    batch.append(0, int(time.time() * 1000), shot.key, shot.value, list(shot.headers))
    spare = MAX_BATCH_BYTES - len(batch.build())
    assert shot.value is not None
    return Shot(topic, shot.value + b" " * spare, shot.key, False, shot.headers, shot.request_id)


def _shots(topic: Topic) -> list[Shot]:
    large_key, large_headers = b"k" * 1_600_000, (("h", b"h" * 100_000),)
    return [
        *(make(topic, num_bytes) for make in (_valid, _invalid) for num_bytes in PLAIN_BYTES),
        *(make(topic, num_bytes, is_packed=True) for make in (_valid, _invalid) for num_bytes in PACKED_BYTES),
        _largest(topic, is_valid=True),
        _largest(topic, is_valid=False),
        Shot(topic, b"{", large_key),
        Shot(topic, b"{", b"k", headers=large_headers),
        Shot(topic, None, large_key),
        Shot(topic, b"{" * 1_900_000, b"k", headers=large_headers),
        Shot(topic, b"{", b"k", is_packed=True, headers=(("h", b"h" * 10 * MB),)),
        Shot(topic, b"{", b"k" * 10 * MB, is_packed=True),
        Shot(topic, b"{", b"k", headers=tuple((f"h{number}", b"") for number in range(50_000))),
    ]


async def _fire(address: str, shots: Sequence[Shot]) -> list[Fired]:
    """The shots, with where each lies in the log."""
    fired = []
    plain, packed = (
        AIOKafkaProducer(
            bootstrap_servers=address,
            max_request_size=1 << 30,
            max_batch_size=1 << 30 if codec_name else 1 << 20,
            compression_type=codec_name,
            request_timeout_ms=30_000,
        )
        for codec_name in (None, "gzip")
    )
    for producer in (plain, packed):
        await producer.start()
    try:
        for shot in shots:
            producer = packed if shot.is_packed else plain
            sent = await producer.send_and_wait(shot.topic, key=shot.key, value=shot.value, headers=list(shot.headers))
            fired.append(Fired(shot, f"{sent.topic}/{sent.partition}", sent.offset))
    finally:
        for producer in (plain, packed):
            await producer.stop()
    return fired


def _lay_at(letter: DeadLetter) -> str:
    return "/".join(header(letter.headers, f"conclave-{name}") or "" for name in ("topic", "partition", "offset"))


@dataclass
class Ends:
    """The ends that requests, samples and steps have come to, by request and event type; and all dead letters."""

    letters: dict[str, DeadLetter] = field(default_factory=dict)
    of: dict[type[Event], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    async def follow_dead_letters(self, address: str) -> None:
        """Notes them by where their records lay, until cancelled."""
        reader = LogReader(address)
        await reader.start()
        try:
            topics = [flow.dead_letter_topic(topic) for topic in ATTACKED]
            reader.assign({tp: 0 for topic in topics for tp in await reader.partitions(topic)})
            while True:
                for record in await reader.poll(timeout_ms=200):
                    letter = dead_letters.read(record)
                    self.letters[_lay_at(letter)] = letter
        finally:
            await reader.stop()

    async def follow(self, client: Client) -> None:
        """Notes what is published, until cancelled."""
        async with client.follow(Topic.ANSWERS, Topic.PATHS, Topic.STEPS, from_end=False) as events:
            async for _, event in events:
                self.of[type(event)][flow.subject_of(event)] += 1

    def num(self, request_id: str | None, *types: type[Event]) -> int:
        """How many events of these types there are of a request."""
        return sum(self.of[each][request_id] for each in types) if request_id else 0

    def has(self, shot: Shot) -> bool:
        """True when what a readable shot asked for has come to its end."""
        match shot.topic:
            case Topic.REQUESTS:
                return self.num(shot.request_id, AnswerReached, RequestFailed) == 1
            case Topic.SAMPLES:
                return self.num(shot.request_id, PathDecoded, PathFailed) == 1
            case Topic.PATHS:
                return self.num(shot.request_id, StepDecided) == 1
            case Topic.FEEDBACK | Topic.ANSWERS:
                return shot.request_id is not None  # seen in the record's offsets
            case _:
                return False  # a verdict on a request that nobody has planned


async def _recorded_offsets(dsn: str) -> dict[str, int]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch('SELECT topic, "partition", next_offset FROM consumer_offsets')
        return {f"{row['topic']}/{row['partition']}": row["next_offset"] for row in rows}
    finally:
        await connection.close()


async def _num_feedback(dsn: str, request_ids: list[str]) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        query = "SELECT count(DISTINCT request_id) FROM feedback WHERE request_id = ANY($1::uuid[])"
        return int(await connection.fetchval(query, request_ids))
    finally:
        await connection.close()


def _check(letter: DeadLetter, shot: Shot) -> None:
    """What the dead letter has is the record's, and what it lacks it says."""
    assert letter.reason
    assert (letter.value == shot.value) is ("value" not in letter.left_out)
    assert (letter.key == shot.key) is ("key" not in letter.left_out)
    kept = [(name, value) for name, value in letter.headers if not name.startswith("conclave-")]
    assert (tuple(kept) == shot.headers) is ("headers" not in letter.left_out)
    size = len(shot.value or b"") + len(shot.key) + sum(len(name) + len(value) for name, value in shot.headers)
    if not shot.is_packed and size < 1_900_000:
        assert letter.left_out == ()


@pytest.mark.timeout(200)
async def test_records_of_every_size_on_every_topic_end_and_all_requests_around_them_are_answered(
    broker: KafkaBroker, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "ENGINE": "scripted", "MODEL": "script", "SCRIPTED_LATENCY_MS": "1", "POSTGRES_DSN": fresh_database,
        "AGGREGATOR_ORPHAN_S": "2",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"CONCLAVE_{name}", value)
    address, ends = str(broker.endpoint), Ends()
    requests = [ReasoningRequested(question=f"{i} + 1?", request_id=new_request_id()) for i in range(NUM_REQUESTS)]
    async with all_running(address, retry_backoff_s=0.01), Client(address) as client:
        following = [asyncio.create_task(ends.follow(client)), asyncio.create_task(ends.follow_dead_letters(address))]
        await client.publish_many(requests[: NUM_REQUESTS // 2])
        fired = await _fire(address, [shot for topic in ATTACKED for shot in _shots(topic)])
        await client.publish_many(requests[NUM_REQUESTS // 2 :])
        lost: list[str] = []

        async def none_is_lost() -> bool:
            stored = await _recorded_offsets(fresh_database)
            lost[:] = [
                f"{each.coordinates} ({len(each.shot.value or b'')} bytes)"
                for each in fired
                if not (each.coordinates in ends.letters or ends.has(each.shot))
                or stored.get(each.partition, 1 << 62) <= each.offset
            ]
            lost.extend(
                str(request.request_id) for request in requests if ends.num(request.request_id, AnswerReached) != 1
            )
            return not lost

        try:
            await until_async(none_is_lost, limit_s=120)
        except AssertionError:
            raise AssertionError(f"{len(lost)} did not end: {lost[:10]}") from None
        for task in following:
            task.cancel()
        await asyncio.wait(following)
        for each in fired:
            if each.coordinates in ends.letters:
                _check(ends.letters[each.coordinates], each.shot)
        feedback = [each.shot.request_id for each in fired if each.shot.topic is Topic.FEEDBACK]
        valid = [each for each in feedback if each is not None]
        assert await _num_feedback(fresh_database, valid) == len(PLAIN_BYTES) + 1, "all but the inflated ones"
