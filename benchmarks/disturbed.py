"""`python -m benchmarks.disturbed`: answers a second while processes die, and how long none comes while all are restarted.

Every service of the pipeline with the scripted engine.

Deaths: more requests waiting than can be answered. In turns: nobody dies; one process after the other is ended by kill -9, every
2.7 s, and started again half a second later, as `conclave up` does it, without and with an instance id (CONCLAVE_INSTANCE_ID).
Kafka and PostgreSQL die as well, each in every other turn.

Restarts (`--restarts`): five requests a second, and each process in turn is told to stop by SIGTERM, drains, and is started
again, once all are ready; with one and with two processes of each service.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import pairwise

import click

from benchmarks.measuring import in_turns, medians, record
from benchmarks.stack import stack
from conclave.local.keeper import Runnable
from conclave.local.servers.server import Server
from conclave.runtime.client import Client
from conclave.testing.pipeline import Pipeline
from conclave.testing.waiting import until
from schemas import flow
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

_BETWEEN_DEATHS_S, _RESTART_S = 2.7, 0.5
_SETTINGS = {"CONCLAVE_SCRIPTED_LATENCY_MS": "20", "CONCLAVE_SESSION_TIMEOUT_MS": "15000"}
_ASKED_AT_ONCE = 500
_ASKED_A_SECOND = 5.0

Disturb = Callable[[Pipeline, Server], "asyncio.Future[None]"]


async def _answered(settings: dict[str, str], duration_s: float, disturb: Disturb | None) -> float:
    """Answers a second."""
    async with stack(_SETTINGS | settings) as (pipeline, server), Client(pipeline.address) as client:
        begun, num_answered, elapsed_s = time.monotonic(), 0, 0.0
        trouble = disturb(pipeline, server) if disturb is not None else None
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
    requests = [_request(number) for number in range(_ASKED_AT_ONCE)]
    await client.publish_many(requests)
    return len(requests)


def _request(number: int) -> ReasoningRequested:
    return ReasoningRequested(
        question=f"What is {number}?", request_id=new_request_id(), policy="fixed-8", deadline_s=3600.0
    )


async def _kill_in_turn(pipeline: Pipeline, server: Server) -> None:
    services = [pipeline.services[row.name] for row in flow.SERVICES.values() if not row.serves_web]
    victims: list[Runnable] = [*services, pipeline.broker, *services, server]
    for victim in itertools.cycle(victims):
        await asyncio.sleep(_BETWEEN_DEATHS_S)
        await victim.kill()
        await asyncio.sleep(_RESTART_S)
        await victim.start()


def _disturbed(pipeline: Pipeline, server: Server) -> "asyncio.Future[None]":
    return asyncio.ensure_future(_kill_in_turn(pipeline, server))


async def _ask_steadily(client: Client, asked: list[float]) -> None:
    while True:
        await client.publish_many([_request(len(asked))])
        asked.append(time.monotonic())
        await asyncio.sleep(1 / _ASKED_A_SECOND)


async def _hear(events: AsyncIterator[tuple[object, object]], answered: list[float]) -> None:
    async for _, event in events:
        if isinstance(event, AnswerReached | RequestFailed):
            answered.append(time.monotonic())


async def _silences(num_replicas: int) -> dict[str, float]:
    """What comes of a restart of every process in turn: the longest time without an answer, and how many came."""
    async with stack(_SETTINGS) as (pipeline, _), Client(pipeline.address) as client:
        for number, name in itertools.product(range(2, num_replicas + 1), flow.SERVICES):
            await pipeline.add(name, f"{name}-{number}")
        await pipeline.until_ready()
        asked: list[float] = []
        answered: list[float] = []
        async with client.follow(Topic.ANSWERS) as events, asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(_ask_steadily(client, asked))
            hearing = tasks.create_task(_hear(events, answered))
            begun = time.monotonic()
            for service in list(pipeline.services.values()):
                await service.stop()
                await service.start()
                await pipeline.until_ready()
            over = time.monotonic()
            asking.cancel()
            await until(lambda: len(answered) >= len(asked), limit_s=60, what="all answers")
            hearing.cancel()
    within = [begun, *(each for each in answered if begun <= each <= over), over]
    longest_s = max(later - earlier for earlier, later in pairwise(within))
    return {"longest_silence_s": longest_s, "answered": float(len(answered)), "restarted_within_s": over - begun}


@click.command()
@click.option("--rounds", default=2, show_default=True)
@click.option("--seconds", default=90.0, show_default=True, help="Of each run.")
@click.option("--restarts", is_flag=True, help="Restart every process in turn, in place of killing.")
def main(rounds: int, seconds: float, restarts: bool) -> None:
    """Measure all in turns; results go to benchmarks/results/."""
    if restarts:
        silences = {f"{num} of each": [asyncio.run(_silences(num)) for _ in range(rounds)] for num in (1, 2)}
        print(silences)
        longest = {name: statistics.median(run["longest_silence_s"] for run in runs) for name, runs in silences.items()}
        print(record("restarts", {"asked_a_second": _ASKED_A_SECOND, "longest_silence_s": longest, "runs": silences}))
        return
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
