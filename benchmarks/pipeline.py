"""`make bench`: what the pipeline carries, and what it adds to a request.

(a) stored paths/s through all services with the scripted engine, against bare aiokafka loops in the same run; CPU of a path
(b) overhead of a request at 20 requests/s with the scripted engine, p50 and p99, and where it goes by stage
    CPU of a path and transactions of a request at 60 paths/s, where they end at once and where they take 2 s on average, each on
    its own, as a model's do; and of the stack while nothing is asked

Of both also joules for each path or answer, where the machine counts them (RAPL, NVML).
"""

import asyncio
import itertools
import statistics
import time
import uuid
from collections.abc import Mapping

import asyncpg
import click

from benchmarks import bare_loops
from benchmarks.load.machine import Usage, usage
from benchmarks.load.stacks import leaders
from benchmarks.measuring import in_turns, medians, percentile, record
from benchmarks.meter import Meter
from benchmarks.stack import counted, stack
from conclave.local.servers.postgres import PostgresServer
from conclave.runtime.client import Client
from conclave.runtime.kafka import LogReader
from conclave.testing.pipeline import Pipeline
from schemas import codec
from schemas.events import AnswerReached, PathDecoded, PlanMade, ReasoningRequested, RequestFailed, StepDecided
from schemas.flow import Topic
from schemas.ids import new_request_id

_SAMPLES = 8
_RECORDED_RATE = 20.0
_TRICKLE_RATE = 7.5  # requests a second: 60 paths
_PATH_MS = 2000  # of a model on two cores
_RUNNING = 512  # at once; 60 paths/s of 2 s are 120 in the mean
_LEAD_S = 8.0  # of asking before it is measured: four times what a path takes


async def throughput(rounds: int, num_requests: int) -> dict[str, object]:
    """(a): medians in records or paths a second, and their ratios."""
    async with stack({"CONCLAVE_SCRIPTED_LATENCY_MS": "0", "CONCLAVE_MAX_IN_FLIGHT": "512"}) as (pipeline, server):
        number, found = num_requests * _SAMPLES, leaders(pipeline, server)
        cpu_us: list[dict[str, float]] = []
        energy: list[dict[str, object]] = []

        async def stored() -> float:
            before = usage(found)
            with Meter() as meter:
                rate = await store_paths(pipeline, server, num_requests)
            cpu_us.append(_cpu_us(before, usage(found), number))
            energy.append(meter.told(number))
            return rate

        await bare_loops.fill(pipeline.address, "bench-in", number, 1200)
        await store_paths(pipeline, server, 20)  # warm
        figures = await in_turns(
            {
                "stored paths/s, whole pipeline": stored,
                "bare loop, at least once": lambda: bare_loops.loop(
                    pipeline.address, "bench-in", number, is_transactional=False
                ),
                "bare loop, transactional": lambda: bare_loops.loop(
                    pipeline.address, "bench-in", number, is_transactional=True
                ),
            },
            rounds=rounds,
        )
    middle = medians(figures)
    whole, bare, transactional = middle.values()
    return {
        "medians_per_s": middle,
        "ratio_to_bare": whole / bare,
        "ratio_to_transactional": whole / transactional,
        "cpu_us_a_path": {part: statistics.median(each[part] for each in cpu_us) for part in cpu_us[0]},
        **({"energy_a_path": energy} if any(energy) else {}),
        "all": figures,
    }


async def store_paths(pipeline: Pipeline, server: PostgresServer, num_requests: int) -> float:
    requests = [
        ReasoningRequested(question=f"{uuid.uuid4()}?", request_id=new_request_id(), policy="fixed-8")
        for _ in range(num_requests)
    ]
    connection = await asyncpg.connect(server.dsn())
    before = await connection.fetchval("SELECT count(*) FROM paths")
    wanted = before + num_requests * _SAMPLES
    async with Client(pipeline.address) as client:
        started = time.perf_counter()
        await client.publish_many(requests)
        while await connection.fetchval("SELECT count(*) FROM paths") < wanted:
            await asyncio.sleep(0.02)
            if time.perf_counter() - started > 300:
                raise TimeoutError("the paths were not stored within 300 s")
        elapsed_s = time.perf_counter() - started
    await connection.close()
    return num_requests * _SAMPLES / elapsed_s


def _cpu_us(before: Mapping[str, Usage], after: Mapping[str, Usage], num_paths: float) -> dict[str, float]:
    """CPU of each part for each path, in microseconds, and of all together."""
    each = {part: (after[part].cpu_s - before[part].cpu_s) * 1e6 / num_paths for part in after}
    return {"all": sum(each.values())} | each


async def overhead(rate: float, duration_s: float) -> dict[str, object]:
    """(b): milliseconds from publishing to the answer in a client's hands, and between the records of each stage."""
    async with stack({"CONCLAVE_SCRIPTED_LATENCY_MS": "0"}) as (pipeline, server):
        await _paced(pipeline, rate, 3.0)  # warm
        idle = await _at_a_trickle(pipeline, server, duration_s, is_asked=False)
        at_once = await _at_a_trickle(pipeline, server, duration_s)
        with Meter() as meter:
            seen = await _paced(pipeline, rate, duration_s)
        stages = await stages_of(pipeline, set(seen))
    values = list(seen.values())
    print(f"  p50 {percentile(values, 0.5):.1f} ms, p99 {percentile(values, 0.99):.1f} ms over {len(values)} requests")
    return {
        "at_a_trickle": {
            "idle": idle,
            "ended at once": at_once,
            f"ended in {_PATH_MS} ms": await _of_a_model(duration_s),
        },
        "rate_per_s": rate,
        "requests": len(values),
        "p50_ms": percentile(values, 0.5),
        "p99_ms": percentile(values, 0.99),
        "stages_ms": stages,
        **meter.told(len(values)),
    }


async def _of_a_model(duration_s: float) -> dict[str, dict[str, float]]:
    settings = {"CONCLAVE_SCRIPTED_LATENCY_MS": str(_PATH_MS), "CONCLAVE_MAX_RUNNING": str(_RUNNING)}
    async with stack(settings) as (pipeline, server):
        await _paced(pipeline, _RECORDED_RATE, 3.0)  # warm
        return await _at_a_trickle(pipeline, server, duration_s)


async def _at_a_trickle(
    pipeline: Pipeline, server: PostgresServer, duration_s: float, *, is_asked: bool = True
) -> dict[str, dict[str, float]]:
    """CPU of a path of each part in microseconds, and transactions of a request of each service, at 60 paths/s.

    Of a time in the midst of the asking, as many being answered as are asked. Where nothing is asked: as if there had been as many.
    """
    found, num_requests, seen = leaders(pipeline, server), _TRICKLE_RATE * duration_s, dict[str, float]()
    async with asyncio.TaskGroup() as tasks:
        if is_asked:
            tasks.create_task(_paced(pipeline, _TRICKLE_RATE, _LEAD_S + duration_s, seen))
            await asyncio.sleep(_LEAD_S)
        before, num_before, num_seen = usage(found), await asyncio.to_thread(_num_transactions, pipeline), len(seen)
        await asyncio.sleep(duration_s)
        cpu_us, num_seen = _cpu_us(before, usage(found), num_requests * _SAMPLES), len(seen) - num_seen
        now = await asyncio.to_thread(_num_transactions, pipeline)
    if is_asked and num_seen < 0.8 * num_requests:
        raise RuntimeError(f"of {num_requests:g} requests only {num_seen} were answered in time: it is no trickle")
    made = {name: (now[name] - num_before[name]) / num_requests for name in now}
    print(f"  {cpu_us['all']:.0f} us a path, {sum(made.values()):.2f} transactions a request", flush=True)
    return {"cpu_us_a_path": cpu_us, "transactions_a_request": made}


def _num_transactions(pipeline: Pipeline) -> dict[str, float]:
    return {service: number for service, _, number in counted(pipeline, "conclave_transaction_seconds_count")}


async def _paced(
    pipeline: Pipeline, rate: float, duration_s: float, seen: dict[str, float] | None = None
) -> dict[str, float]:
    """Milliseconds to the answer, by request, at an open loop's pace; in `seen` as they come."""
    asked: dict[str, float] = {}
    seen = {} if seen is None else seen
    number = int(rate * duration_s)
    async with Client(pipeline.address) as client, client.follow(Topic.ANSWERS) as events, asyncio.TaskGroup() as tasks:

        async def publish() -> None:
            begun = time.perf_counter()
            for i in range(number):
                await asyncio.sleep(max(0.0, begun + i / rate - time.perf_counter()))
                request = ReasoningRequested(question=f"{uuid.uuid4()}?", request_id=new_request_id(), policy="fixed-8")
                asked[str(request.request_id)] = time.perf_counter()
                tasks.create_task(client.publish(request))

        tasks.create_task(publish())
        async for _, event in events:
            if isinstance(event, AnswerReached | RequestFailed) and event.request_id in asked:
                seen[event.request_id] = (time.perf_counter() - asked[event.request_id]) * 1000
            if len(seen) == number:
                break
    return seen


async def stages_of(pipeline: Pipeline, ids: set[str]) -> dict[str, dict[str, float]]:
    """Medians and 99th percentiles between the records that a request leaves in the log."""
    times: dict[str, dict[str, list[int]]] = {each: {} for each in ids}
    reader = LogReader(pipeline.address)
    await reader.start()
    partitions = [
        tp
        for topic in (Topic.REQUESTS, Topic.STEPS, Topic.PATHS, Topic.ANSWERS)
        for tp in await reader.partitions(topic)
    ]
    ends = await reader.end_offsets(partitions)
    reader.assign(await reader.begin_offsets(partitions))
    while any([await reader.position(tp) < ends[tp] for tp in partitions]):
        for found in await reader.poll(timeout_ms=200):
            event = codec.read(found.topic, found.headers, found.value)
            request = event.context.request_id if isinstance(event, PathDecoded) else getattr(event, "request_id", None)
            if request in times:
                times[request].setdefault(type(event).__name__, []).append(found.timestamp)
    await reader.stop()
    order = [ReasoningRequested, PlanMade, PathDecoded, StepDecided, AnswerReached]
    stages: dict[str, dict[str, float]] = {}
    for before, after in itertools.pairwise(order):
        gaps = [
            float(max(each[after.__name__]) - max(each[before.__name__]))
            for each in times.values()
            if before.__name__ in each and after.__name__ in each
        ]
        name = f"{before.__name__} to {after.__name__}"
        stages[name] = {"p50": percentile(gaps, 0.5), "p99": percentile(gaps, 0.99)}
        print(f"  {name:<40} p50 {stages[name]['p50']:.0f} ms, p99 {stages[name]['p99']:.0f} ms")
    return stages


@click.command()
@click.option("--only", type=click.Choice(["a", "b"]), help="One of the two.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--requests", "num_requests", default=2500, show_default=True, help="Of a round of (a).")
@click.option(
    "--rate", default=_RECORDED_RATE, show_default=True, help="Of (b), requests a second. Only 20 is recorded."
)
def main(only: str | None, rounds: int, num_requests: int, rate: float) -> None:
    """Measure the pipeline; results go to benchmarks/results/."""
    if only in (None, "a"):
        print("(a) stored paths a second")
        print(record("throughput", asyncio.run(throughput(rounds, num_requests))))
    if only in (None, "b"):
        print(f"(b) overhead of a request at {rate:g} requests/s")
        result = asyncio.run(overhead(rate, 20.0))
        print(record("overhead", result) if rate == _RECORDED_RATE else result)


if __name__ == "__main__":
    main()
