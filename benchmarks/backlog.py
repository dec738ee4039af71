"""What a question that somebody waits for waits behind a backlog: real servers, scripted engine, with the door and without.

`python -m benchmarks.backlog`: thousands of standard questions are published at once, and from then on an interactive one a second.
In turns with a door that never closes: what the whole backlog took, and the CPU of each part, tell what the door costs.
"""

import asyncio
import time
import uuid

import click

from benchmarks.load.machine import usage
from benchmarks.load.stacks import leaders
from benchmarks.measuring import record
from benchmarks.pipeline import stages_of
from benchmarks.stack import stack
from conclave.runtime.client import Client
from conclave.testing.pipeline import Pipeline
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

_DOORS = {"with the door": "3072", "without": "1000000"}
_LIMIT_S = 600.0
_EVERY_S = 1.0  # an interactive question


async def measure(num_behind: int, rounds: int) -> dict[str, object]:
    """By door, a run each round: seconds that each interactive question took, and the whole backlog; CPU seconds by part."""
    runs: dict[str, list[dict[str, object]]] = {name: [] for name in _DOORS}
    for _ in range(rounds):
        for name, open_samples in _DOORS.items():
            print(f"  {name}")
            runs[name].append(await _run(open_samples, num_behind))
    return {"behind": num_behind, **runs}


async def _run(open_samples: str, num_behind: int) -> dict[str, object]:
    settings = {"CONCLAVE_SCRIPTED_LATENCY_MS": "0", "CONCLAVE_OPEN_SAMPLES": open_samples}
    async with stack(settings) as (pipeline, server):
        await _played(pipeline, 20)  # warm
        before = usage(leaders(pipeline, server))
        waited, backlog_s = await _played(pipeline, num_behind)
        after = usage(leaders(pipeline, server))
        stages = await stages_of(pipeline, set(waited))
    cpu_s = {part: round(after[part].cpu_s - before[part].cpu_s, 2) for part in after}
    first_s, longest_s = next(iter(waited.values())), max(waited.values())
    print(f"  first {first_s:.2f} s, longest {longest_s:.2f} s, all {backlog_s:.2f} s", flush=True)
    print(f"  CPU {sum(cpu_s.values()):.1f} s: {cpu_s}", flush=True)
    return {"interactive_s": list(waited.values()), "backlog_s": backlog_s, "cpu_s": cpu_s, "stages_ms": stages}


async def _played(pipeline: Pipeline, num_behind: int) -> tuple[dict[str, float], float]:
    """Seconds that each interactive question took, by its id, and the backlog in front of the first of them."""
    behind = [_request(None) for _ in range(num_behind)]
    left = {str(each.request_id) for each in behind}
    asked: dict[str, float] = {}
    waited: dict[str, float] = {}
    async with Client(pipeline.address) as client, client.follow(Topic.ANSWERS) as events, asyncio.timeout(_LIMIT_S):
        started = time.perf_counter()
        await client.publish_many(behind)
        asking = asyncio.create_task(_ask_on(client, asked))
        async for _, event in events:
            if not isinstance(event, AnswerReached | RequestFailed):
                continue
            if event.request_id in asked:
                waited[event.request_id] = time.perf_counter() - asked.pop(event.request_id)
            left.discard(event.request_id)
            if not left and waited:
                break
        took_s = time.perf_counter() - started
        asking.cancel()
    return waited | {request_id: time.perf_counter() - each for request_id, each in asked.items()}, took_s


async def _ask_on(client: Client, asked: dict[str, float]) -> None:
    while True:
        request = _request("interactive")
        asked[str(request.request_id)] = time.perf_counter()
        await client.publish(request)
        await asyncio.sleep(_EVERY_S)


def _request(priority: str | None) -> ReasoningRequested:
    return ReasoningRequested(
        question=f"{uuid.uuid4()}?", request_id=new_request_id(), policy="fixed-8", priority=priority
    )


@click.command()
@click.option("--behind", "num_behind", default=3000, show_default=True)
@click.option("--rounds", default=2, show_default=True)
def main(num_behind: int, rounds: int) -> None:
    """Measure what an interactive question waits behind a backlog; the result goes to benchmarks/results/."""
    print(record("backlog", asyncio.run(measure(num_behind, rounds))))


if __name__ == "__main__":
    main()
