"""Reads dead letters where they lie: for `conclave dead-letters` and the gateway's pages."""

from conclave.runtime import dead_letters
from conclave.runtime.brokers import Brokers
from conclave.runtime.dead_letters import DeadLetter, LetterPlace
from conclave.runtime.kafka import LogReader
from schemas import flow
from schemas.flow import Topic


async def latest(brokers: Brokers | str, topic: Topic | None = None, limit: int = 1000) -> list[DeadLetter]:
    """The dead letters of one topic, or of all: the latest `limit`, oldest first. Raises: LostDependency."""
    rows = [row.topic for row in flow.TOPICS if not row.is_broadcast and topic in (None, row.topic)]
    reader = LogReader(brokers)
    await reader.start()
    try:
        partitions = [tp for name in rows for tp in await reader.partitions(flow.dead_letter_topic(name.value))]
        begins, ends = await reader.begin_offsets(partitions), await reader.end_offsets(partitions)
        reader.assign({tp: max(begins[tp], ends[tp] - 2 * limit) for tp in partitions})
        letters: list[DeadLetter] = []
        while any([await reader.position(tp) < ends[tp] for tp in partitions]):
            letters += [dead_letters.read(record) for record in await reader.poll(timeout_ms=200)]
        return sorted(letters, key=lambda letter: letter.recorded_ms)[-limit:]
    finally:
        await reader.stop()


async def find(brokers: Brokers | str, place: LetterPlace) -> DeadLetter | None:
    """The dead letter that lies there; None where there is none, or none any more. Raises: LostDependency."""
    reader = LogReader(brokers)
    await reader.start()
    try:
        tps = [tp for tp in await reader.partitions(place.topic) if tp.partition == place.partition]
        begins, ends = await reader.begin_offsets(tps), await reader.end_offsets(tps)
        for tp in tps:
            if not begins[tp] <= place.offset < ends[tp]:
                continue
            reader.assign({tp: place.offset})
            while await reader.position(tp) <= place.offset:
                for record in await reader.poll(timeout_ms=200):
                    if record.offset == place.offset:
                        return dead_letters.read(record)
        return None
    finally:
        await reader.stop()
