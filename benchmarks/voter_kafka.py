"""How many ballots a second one voter process takes through Kafka: read, joined, decided, and committed with its verdicts.

    python -m benchmarks.voter_kafka [--steps 2000]

The paths of all steps lie in the log before the voter starts; the clock runs from its first verdict to its last, over the ballots
of the steps decided in between. Broker, voter and this process share the machine; its load stands in the result.
"""

import asyncio
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from benchmarks.measuring import record
from conclave.cli.through_kafka import voter_process
from conclave.local.servers.kafka import KafkaBroker
from conclave.local.state import Folders
from conclave.runtime.client import Client
from conclave.runtime.topics import ensure_topics
from conclave.testing import events as made
from schemas.events import Event, StepDecided
from schemas.flow import Topic
from schemas.ids import new_request_id
from schemas.values import Ask

_SAMPLES = 16
_PARTITIONS = 4
_SEED = 15
_BATCH = 2_000
_SILENCE_S = 120.0


@click.command()
@click.option("--steps", default=2_000, show_default=True)
def main(steps: int) -> None:
    """Measures, prints and records."""
    result = asyncio.run(_measured(steps))
    for name, value in result.items():
        print(f"{name:<16} {value}")
    print(record("voter_kafka", result))


async def _measured(num_steps: int) -> dict[str, object]:
    with TemporaryDirectory(prefix="conclave-bench-") as folder:
        broker = KafkaBroker(Path(folder) / "kafka", jars_dir=Folders.default().jars)
        await broker.start()
        try:
            address = str(broker.endpoint)
            await ensure_topics(address, partitions=_PARTITIONS)
            return await _timed(address, Path(folder), _paths(num_steps), num_steps)
        finally:
            await broker.stop()


def _paths(num_steps: int) -> list[Event]:
    """All paths of all steps, shuffled: so many groups are open at a time."""
    rng, ask = random.Random(_SEED), Ask(form="any", stopping="fixed", max_samples=_SAMPLES)
    deadline_ms = round(time.time() * 1000) + 3_600_000
    contexts = [made.context(ask, request_id=new_request_id(), deadline_ms=deadline_ms) for _ in range(num_steps)]
    paths: list[Event] = [
        made.decoded(context, index, _SAMPLES, str(rng.choices((17, 18, 21), (6, 3, 1))[0]))
        for context in contexts
        for index in range(_SAMPLES)
    ]
    rng.shuffle(paths)
    return paths


async def _timed(address: str, folder: Path, paths: list[Event], num_steps: int) -> dict[str, object]:
    voter = voter_process(address, folder, 0)
    try:
        async with Client(address) as client, client.follow(Topic.STEPS) as events:
            for begin in range(0, len(paths), _BATCH):
                await client.publish_many(paths[begin : begin + _BATCH])
            await voter.start()
            begun = first = last = time.perf_counter()
            num_decided = 0
            while num_decided < num_steps:
                async with asyncio.timeout(_SILENCE_S):
                    _, event = await anext(events)
                if isinstance(event, StepDecided):
                    num_decided += 1
                    last = time.perf_counter()
                    first = last if num_decided == 1 else first
    finally:
        await voter.stop()
    return {
        "steps": num_steps,
        "samples": _SAMPLES,
        "ballots_per_s": round((num_steps - 1) * _SAMPLES / (last - first)),
        "ballots_per_s_with_start": round(num_steps * _SAMPLES / (last - begun)),
    }


if __name__ == "__main__":
    main()
