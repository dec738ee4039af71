"""`python -m conclave.local.kafka_training`: makes the file with which Kafka starts faster (see kafka_cache).

`make setup` runs it. A broker is started in a folder of its own, used as the stack uses it, and stopped; its JVM then writes down
which classes it has loaded. Nothing is done where a usable file is there.
"""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from conclave.errors import ConclaveError
from conclave.local.errors import LocalStackError
from conclave.local.machine.process import log_tail
from conclave.local.servers.jars import Progress
from conclave.local.servers.kafka import JVM_FLAGS, KafkaBroker, java
from conclave.local.servers.kafka_cache import keep_cache, usable_cache
from conclave.local.state import Folders
from conclave.prepare import make_topics
from conclave.runtime.broker import Rebalance
from conclave.runtime.kafka import Kafka
from conclave.runtime.record import Output, Tp
from schemas.flow import Topic

_WRITING_S = 600.0  # the JVM needs seconds for it, and many on a machine that is busy
_SESSION_MS, _POLL_INTERVAL_MS = 10_000, 60_000
_NAME = "training"


def train(jars_dir: Path, progress: Progress | None = None) -> Path:
    """The file, which is made where it is not usable.

    Raises: LocalStackError; LostDependency when the broker does not answer.
    """
    if (usable := usable_cache(jars_dir, java(), JVM_FLAGS)) is not None:
        return usable
    jars_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars_dir, prefix="training-") as folder:
        made = Path(folder, "kafka.aot")
        broker = KafkaBroker(Path(folder, "kafka"), jars_dir=jars_dir, progress=progress, makes_cache=made)
        asyncio.run(_run(broker))
        if not made.is_file():
            raise LocalStackError(f"Kafka's JVM made no cache of its classes: {log_tail(broker.log_path)}")
        return keep_cache(made, jars_dir, java(), JVM_FLAGS)


async def _run(broker: KafkaBroker) -> None:
    await broker.start()
    try:
        await _use(broker.endpoint)
        assert broker.process is not None
        await broker.process.stop(polite=signal.SIGTERM, timeout_s=_WRITING_S)
    finally:
        await broker.kill()


async def _use(endpoint: str) -> None:
    """What services do first: topics, a member of a group, and a transaction."""

    async def nothing(partitions: Collection[Tp]) -> None:
        return

    await make_topics(endpoint, partitions=1)
    kafka, topic = Kafka(endpoint), Topic.REQUESTS.value
    consumer = kafka.group_consumer(
        _NAME, _NAME, session_timeout_ms=_SESSION_MS, max_poll_interval_ms=_POLL_INTERVAL_MS
    )
    producer = kafka.transactional_producer(_NAME)
    try:
        await consumer.start([topic], Rebalance(nothing, nothing))
        await producer.open()
        await producer.begin()
        await producer.send([Output(topic, b"key", b"value", ())])
        await producer.acknowledged()
        await producer.send_offsets(_NAME, {Tp(topic, 0): (0, "")})
        await producer.commit()
        await consumer.poll([Tp(topic, 0)], timeout_ms=1000, max_records=1)
    finally:
        await producer.close()
        await consumer.stop()


def main() -> None:
    """Makes the file for this checkout. The exit status is 1, after a line that says why, where that is not possible."""
    try:
        train(Folders.default().jars)
    except ConclaveError as error:
        sys.exit(f"Kafka will start without its cache of classes: {error}")


if __name__ == "__main__":
    main()
