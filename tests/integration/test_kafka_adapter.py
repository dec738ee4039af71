"""What conclave.runtime.kafka reaches for inside the pinned aiokafka is there, and does what it is reached for.

The places: the sender's backoff, the parser in C, a heartbeat and a generation of the coordinator, the touch of a full
consumer, the metadata of a reader, and the parser of a fetch.
"""

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Collection
from importlib.metadata import version

import aiokafka.consumer.fetcher as fetcher
import pytest
from aiokafka.producer import sender
from aiokafka.record import default_records

from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime import broker, commit_metadata
from conclave.runtime.backlog import Backlog, Behind
from conclave.runtime.broker import GroupConsumer, Rebalance
from conclave.runtime.brokers import Brokers, Compression
from conclave.runtime.kafka import Admin, Kafka, LogReader, PlainProducer, TransactionalProducer
from conclave.runtime.record import Output, Record, Tp
from conclave.runtime.tracker import Commit
from conclave.runtime.transaction import transact
from conclave.testing.waiting import until, until_async


@pytest.fixture
async def topic(kafka: KafkaBroker) -> str:
    """A topic of one partition, of this test alone."""
    name = f"adapter-{uuid.uuid4().hex[:8]}"
    async with Admin(str(kafka.endpoint)) as admin:
        await admin.create_topic(name, 1, 1, {})
    return name


@pytest.fixture
async def consumer(kafka: KafkaBroker, topic: str) -> AsyncIterator[GroupConsumer]:
    """The only member of a group, with its partition. It must poll, or be touched, every two seconds."""
    consumer = Kafka(str(kafka.endpoint)).group_consumer(
        f"group-{topic}", "test", session_timeout_ms=6_000, max_poll_interval_ms=2_000
    )
    assigned: list[Tp] = []

    async def on_assigned(partitions: Collection[Tp]) -> None:
        assigned.extend(partitions)

    async def on_revoked(partitions: Collection[Tp]) -> None:
        assigned.clear()

    await consumer.start([topic], Rebalance(on_revoked, on_assigned))
    await until(lambda: bool(assigned), what="the partition")
    yield consumer
    await consumer.stop()


def test_the_version_is_the_one_that_all_of_this_was_tried_with() -> None:
    assert version("aiokafka") == "0.14.0"


def test_the_backoff_between_transactions_is_ours_and_the_sender_goes_by_it() -> None:
    assert sender.BACKOFF_OVERRIDE == 0.002
    assert "BACKOFF_OVERRIDE" in inspect.getsource(sender.Sender) + inspect.getsource(sender.AddPartitionsToTxnHandler)


def test_records_are_parsed_in_c_and_fetched_through_the_parser_that_takes_any_header_name() -> None:
    assert default_records.DefaultRecordBatch.__module__ == "aiokafka.record._crecords.default_records"
    assert fetcher.PartitionRecords.__module__ == "conclave.runtime.kafka.header_names"
    assert fetcher.MemoryRecords.__module__ == "conclave.runtime.kafka.header_names"


async def test_a_member_knows_its_generation_and_the_broker_confirms_it(consumer: GroupConsumer) -> None:
    membership = consumer.membership()
    assert membership.generation >= 1
    assert membership.member_id
    assert await consumer.is_member()


async def test_a_member_that_is_touched_stays_and_one_that_is_not_loses_its_place(consumer: GroupConsumer) -> None:
    clock, before = asyncio.get_running_loop().time, consumer.membership()
    touched_until = clock() + 5.0  # two and a half times what it may go without polling
    while clock() < touched_until:
        consumer.touch()
        await asyncio.sleep(0.2)
    assert await consumer.is_member()
    assert consumer.membership() == before

    async def has_left() -> bool:
        return not await consumer.is_member()

    await until_async(has_left, limit_s=20, what="the end of the membership")


async def test_a_position_steps_over_nothing_that_was_not_polled(
    kafka: KafkaBroker, topic: str, consumer: GroupConsumer
) -> None:
    tp, producer = Tp(topic, 0), PlainProducer(str(kafka.endpoint))
    await producer.start()
    await producer.publish([Output(topic, b"k", b"v", ())] * 3)
    await producer.stop()
    assert await consumer.position(tp) == 0
    polled = 0
    async with asyncio.timeout(20):
        while polled < 3:
            polled += len(await consumer.poll([tp], timeout_ms=200, max_records=2))
            assert await consumer.position(tp) == polled
    await until(lambda: consumer.end_offset(tp) == 3, what="the log's end")


async def test_what_ends_in_a_marker_is_read_out_once_all_before_it_is(
    kafka: KafkaBroker, topic: str, consumer: GroupConsumer
) -> None:
    tp, producer = Tp(topic, 0), TransactionalProducer(str(kafka.endpoint), f"{topic}-producer")
    await producer.open()
    await producer.begin()
    await producer.send([Output(topic, b"k", b"v", ())] * 3)
    await producer.acknowledged()
    await producer.commit()
    await producer.close()
    polled = 0
    async with asyncio.timeout(20):
        while polled < 3:
            polled += len(await consumer.poll([tp], timeout_ms=200, max_records=1))
            assert polled == 3 or not consumer.is_read_out(tp)
        while not consumer.is_read_out(tp):
            assert await consumer.poll([tp], timeout_ms=200, max_records=1) == []
    assert consumer.end_offset(tp) == 4


async def test_a_reader_finds_a_topic_that_was_made_after_it_had_started(kafka: KafkaBroker, topic: str) -> None:
    reader = LogReader(str(kafka.endpoint))
    await reader.start()
    try:
        later = f"{topic}-later"
        assert await reader.partitions(later) == []
        async with Admin(str(kafka.endpoint)) as admin:
            await admin.create_topic(later, 2, 1, {})

        async def has_both() -> bool:
            return await reader.partitions(later) == [Tp(later, 0), Tp(later, 1)]

        await until_async(has_both, what="both partitions")
    finally:
        await reader.stop()


async def test_who_comes_back_under_an_instance_id_has_its_place_at_once_and_nobody_is_disturbed(
    kafka: KafkaBroker,
) -> None:
    topic = f"adapter-{uuid.uuid4().hex[:8]}"
    async with Admin(str(kafka.endpoint)) as admin:
        await admin.create_topic(topic, 2, 1, {})
    dealt: dict[str, list[list[Tp]]] = {"a": [], "b": [], "a again": []}

    async def join(name: str) -> broker.GroupConsumer:
        async def on_assigned(partitions: Collection[Tp]) -> None:
            dealt[name].append(sorted(partitions))

        async def on_revoked(partitions: Collection[Tp]) -> None:
            return None

        consumer = Kafka(str(kafka.endpoint)).group_consumer(
            f"group-{topic}", name, session_timeout_ms=60_000, max_poll_interval_ms=60_000, instance_id=name[0]
        )
        await consumer.start([topic], Rebalance(on_revoked, on_assigned))
        return consumer

    first, other = await join("a"), await join("b")
    await until(lambda: [len(each[-1]) if each else 0 for each in dealt.values()] == [1, 1, 0], what="a partition each")
    num_dealt = len(dealt["b"])
    await first.stop()  # which says nothing to the group: as if it had been killed
    async with asyncio.timeout(30):  # half of its session
        again = await join("a again")
        await until(lambda: bool(dealt["a again"]), what="a place")
    assert dealt["a again"][-1] == dealt["a"][-1]
    assert len(dealt["b"]) == num_dealt
    assert again.membership().generation == other.membership().generation
    await again.stop()
    await other.stop()


async def test_a_group_is_read_from_outside_what_it_has_committed_and_how_many_it_is(
    kafka: KafkaBroker, topic: str, consumer: GroupConsumer
) -> None:
    address, tp = str(kafka.endpoint), Tp(topic, 0)
    producer = PlainProducer(address)
    await producer.start()
    await producer.publish([Output(topic, b"", b"{}", ()) for _ in range(5)])
    await producer.stop()
    backlog = Backlog(Kafka(address), f"group-{topic}", topic, source=topic)
    assert await backlog.count() == Behind(5, 1)
    writer = Kafka(address).transactional_producer(f"test.{topic}")
    await writer.open()
    commit = Commit(2, frozenset({3}))
    await transact(writer, [], f"group-{topic}", {tp: (2, commit_metadata.encode(commit))})
    await writer.close()

    async def counts() -> bool:
        consumer.touch()
        return await backlog.count() == Behind(2, 1)

    await until_async(counts, what="the commit")  # which counts a moment after it was confirmed
    assert backlog.share([tp]) == 1.0
    await backlog.close()
    nobody = Backlog(Kafka(address), f"nobody-{topic}", topic, source=topic)
    assert await nobody.count() == Behind(5, 0)
    await nobody.close()


async def test_what_is_compressed_is_read_as_it_was_written_and_takes_less_of_the_log(
    kafka: KafkaBroker, topic: str
) -> None:
    outputs = [Output(topic, b"key", b"an answer, and again an answer " * 20, (("tr\xfc", b"\xff"),))] * 50
    reader = LogReader(str(kafka.endpoint))
    await reader.start()
    reader.assign({Tp(topic, 0): 0})
    sizes: dict[Compression, int] = {}
    before = 0
    for compression in Compression:
        brokers = Brokers(str(kafka.endpoint), compression=compression)
        producer = Kafka(brokers).transactional_producer(f"test.{topic}.{compression}")
        await producer.open()
        await transact(producer, outputs, f"group-{topic}", {Tp(topic, 0): (0, "")})
        await producer.close()
        found: list[Record] = []
        while len(found) < len(outputs):
            found += await reader.poll(timeout_ms=500)
        assert {(each.key, each.value, tuple(each.headers)) for each in found} == {
            (each.key, each.value, each.headers) for each in outputs
        }
        log = sum(path.stat().st_size for path in kafka.data_dir.rglob(f"{topic}-0/*.log"))
        sizes[compression], before = log - before, log
    await reader.stop()
    assert all(size < sizes[Compression.NONE] / 4 for each, size in sizes.items() if each is not Compression.NONE)
