"""The floor: a bare aiokafka consume-transform-produce loop, with and without transactions, on records like ours."""

import time
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from conclave.runtime.kafka import Admin

_BATCH = 500


async def fill(address: str, topic: str, number: int, size: int) -> None:
    """Puts so many records of `size` bytes into a fresh topic of four partitions."""
    async with Admin(address) as admin:
        await admin.create_topic(topic, 4, 1, {})
    producer = AIOKafkaProducer(bootstrap_servers=address, max_batch_size=1 << 18)
    await producer.start()
    value = b"x" * size
    for future in [await producer.send(topic, value, key=str(i).encode()) for i in range(number)]:
        await future
    await producer.stop()


async def loop(address: str, source: str, number: int, *, is_transactional: bool) -> float:
    """Records a second through consume, transform and produce."""
    target, group = f"bench-out-{uuid.uuid4().hex[:8]}", f"bench-{uuid.uuid4().hex[:8]}"
    async with Admin(address) as admin:
        await admin.create_topic(target, 4, 1, {})
    consumer = AIOKafkaConsumer(
        source, bootstrap_servers=address, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    transactional = {"transactional_id": group, "retry_backoff_ms": 5} if is_transactional else {}
    producer = AIOKafkaProducer(bootstrap_servers=address, max_batch_size=1 << 18, acks="all", **transactional)
    await consumer.start()
    await producer.start()
    done, started = 0, 0.0
    while done < number:
        batches = await consumer.getmany(timeout_ms=1000, max_records=_BATCH)
        started = started or time.perf_counter()
        records = [record for batch in batches.values() for record in batch]
        if not records:
            continue
        if is_transactional:
            await producer.begin_transaction()
        futures = [await producer.send(target, (record.value or b"").upper(), key=record.key) for record in records]
        offsets = {TopicPartition(r.topic, r.partition): OffsetAndMetadata(r.offset + 1, "") for r in records}
        if is_transactional:
            await producer.send_offsets_to_transaction(offsets, group)
        for future in futures:
            await future
        await (producer.commit_transaction() if is_transactional else consumer.commit(offsets))
        done += len(records)
    elapsed_s = time.perf_counter() - started
    await consumer.stop()
    await producer.stop()
    return done / elapsed_s
