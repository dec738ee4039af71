"""`python -m benchmarks.disturbed`: answers a second while processes die, against the same load left alone.

Every service of the pipeline with the scripted engine, more requests waiting than can be answered. In turns: nobody dies; one
process after the other is ended by kill -9, every 2.7 s, and started again half a second later, as `conclave up` does it, without
and with an instance id (CONCLAVE_INSTANCE_ID).
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from functools import partial

import click

from benchmarks.measuring import in_turns, medians, record
from benchmarks.pipeline import stack
from conclave.runtime.client import Client
from conclave.testing.pipeline import Pipeline
from schemas import flow
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

_BETWEEN_DEATHS_S, _RESTART_S = 2.7, 0.5
_SETTINGS = {"CONCLAVE_SCRIPTED_LATENCY_MS": "20", "CONCLAVE_SESSION_TIMEOUT_MS": "15000"}
_ASKED_AT_ONCE = 500


async def _answered(
    settings: dict[str, str], duration_s: float, disturb: Callable[[Pipeline], "asyncio.Future[None]"] | None
) -> float:
    """Answers a second."""
    async with stack(_SETTINGS | settings) as (pipeline, _), Client(pipeline.address) as client:
        begun, num_answered, elapsed_s = time.monotonic(), 0, 0.0
        trouble = disturb(pipeline) if disturb is not None else None
        async with client.follow(Topic.ANSWERS) as events:
            num_open = await _ask(client)
            async with asyncio.timeout(duration_s + 600):
                async for _, event in events:
                    if not isinstance(event, AnswerReached | RequestFailed):
                        continue
                    num_answered, num_open = num_answered + 1, num_open - 1
                    elapsed_s = time.monotonic() - begun
                    if elapsed_s >= duration_s:
                        break
                    if num_open < _ASKED_AT_ONCE // 2:
                        num_open += await _ask(client)
        if trouble is not None:
            trouble.cancel()
            await asyncio.wait({trouble})
        return num_answered / elapsed_s


async def _ask(client: Client) -> int:
    requests = [
        ReasoningRequested(question=f"What is {i}?", request_id=new_request_id(), policy="fixed-8", deadline_s=3600.0)
        for i in range(_ASKED_AT_ONCE)
    ]
    await client.publish_many(requests)
    return len(requests)


async def _kill_in_turn(pipeline: Pipeline) -> None:
    for name in itertools.cycle(row.name for row in flow.SERVICES.values() if not row.serves_web):
        await asyncio.sleep(_BETWEEN_DEATHS_S)
        service = pipeline.services[name]
        await service.kill()
        await asyncio.sleep(_RESTART_S)
        await service.start()


def _disturbed(pipeline: Pipeline) -> "asyncio.Future[None]":
    return asyncio.ensure_future(_kill_in_turn(pipeline))


@click.command()
@click.option("--rounds", default=2, show_default=True)
@click.option("--seconds", default=90.0, show_default=True, help="Of each run.")
def main(rounds: int, seconds: float) -> None:
    """Measure all three in turns; results go to benchmarks/results/."""
    unnamed = {"CONCLAVE_INSTANCE_ID": ""}  # the pipeline names its processes by itself
    runs = {
        "answers/s, nobody dies": partial(_answered, {}, seconds, None),
        "answers/s, deaths, no instance ids": partial(_answered, unnamed, seconds, _disturbed),
        "answers/s, deaths, instance ids": partial(_answered, {}, seconds, _disturbed),
    }
    figures = asyncio.run(in_turns(runs, rounds=rounds))
    calm, before, now = medians(figures).values()
    result = {
        "medians": medians(figures),
        "without_ids_of_calm": before / calm,
        "with_ids_of_calm": now / calm,
        "all": figures,
    }
    print(result)
    print(record("disturbed", result))


if __name__ == "__main__":
    main()
