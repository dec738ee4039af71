"""`python -m benchmarks.memory`: see the command's help."""

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import uvloop

from benchmarks.memory.inside import look
from benchmarks.memory.report import rows_of
from benchmarks.recording import happened
from conclave.cli.report.section import Section
from conclave.cli.report.terminal import show
from conclave.domain.recorded import RecordedEvent
from conclave.local.servers.postgres import PostgresServer
from conclave.runtime.memory import collect_seldom
from conclave.runtime.record import output_of
from conclave.store.migrate import upgrade
from conclave.store.store import Store
from schemas import codec, flow

_STATE = Path(__file__).parents[2] / ".conclave"  # which git ignores
_NUM_LOOKS = 120
_LARGEST = 400  # events of a batch at a trickle; one in fifty is a whole one of 2,000
_WHOLE, _WHOLE_EVERY = 2000, 50


@click.command()
@click.option("--requests", "num_requests", default=100_000, show_default=True, help="Of eight paths each.")
def main(num_requests: int) -> None:
    """Record requests in a PostgreSQL of this run, and tell what memory the recorder's own code comes to.

    Events are read from bytes, as the recorder reads them, and written in batches of many sizes: few at a time mostly, and now and
    then as many as are read at once. Without Kafka, so an hour's worth of a light load takes a few minutes.
    """
    _STATE.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="memory-", dir=_STATE))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            looks = runner.run(_looks(folder, num_requests))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    columns = ("MiB, or a number", "first", "in the middle", "last", "in 100,000 requests", "flat")
    show([Section("Recording", f"{num_requests} requests.", columns, tuple(rows_of(looks, per=100_000.0)))])


async def _looks(folder: Path, num_requests: int) -> list[tuple[float, dict[str, float]]]:
    """What memory came to, by the number of requests recorded until then."""
    server = PostgresServer(folder / "postgres")
    await server.start()
    store = Store(server.dsn())
    try:
        await asyncio.to_thread(upgrade, server.dsn())
        collect_seldom()
        await store.maintain(_now_ms())
        await store.claim([(row.topic.value, 0) for row in flow.TOPICS])
        looks, due = [(0.0, look())], 0.0
        for number, batch in _batches(num_requests):
            await store.write(batch, {(batch[-1].topic, 0): batch[-1].offset + 1})
            if number >= due:
                looks.append((float(number), look()))
                due += num_requests / _NUM_LOOKS
        return looks
    finally:
        await store.close()
        await server.stop()


def _batches(num_requests: int) -> Iterator[tuple[int, list[RecordedEvent]]]:
    """Batches as they lie in the log, each with the number of requests that have begun by then."""
    rng, batch, offset = random.Random(1), [], 0
    size = 1
    for number in range(num_requests):
        for event in happened(number):
            output = output_of(event, service="benchmark", event_id=f"{number}/{offset}", parent=None, now_ms=_now_ms())
            read = codec.read(output.topic, output.headers, output.value)
            key = (output.key or b"").decode()
            batch.append(RecordedEvent(read, f"{number}/{offset}", key, output.topic, 0, offset, _now_ms(), None))
            offset += 1
            if len(batch) >= size:
                yield number, batch
                batch = []
                size = _WHOLE if rng.randrange(_WHOLE_EVERY) == 0 else rng.randint(1, _LARGEST)
    if batch:
        yield num_requests, batch


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
