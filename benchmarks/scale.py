"""`python -m benchmarks.scale`: what each part costs, fitted to one stack, and how well the model of that predicts others.

    1. one of each service      CPU by part at rest, at four rates and at saturation, with 8 samples and with 2
    2. fit                      conclave.domain.capacity.Costs, by least squares of relative errors, nothing below zero
    3. 2 and 4 of each          their saturation, and their percentiles at half of it, against what the model says of them

The costs go to conclave/cli/capacity.json, which `conclave capacity` reads; all figures to benchmarks/results/scale.json. The
driver shares the machine: what it takes is left out of the costs, and out of `used`, the share of the cores that the parts had.
"""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial

import click
import msgspec
import numpy as np
from scipy.optimize import nnls

from benchmarks.load.machine import usage
from benchmarks.load.stacks import leaders
from benchmarks.measuring import commit, cpu_name, percentile, record
from benchmarks.pipeline import stack
from conclave.cli.capacity import SHIPPED, Measured
from conclave.domain.capacity import (
    ONE_PROCESS,
    Cost,
    Costs,
    Latency,
    Stack,
    cores_of,
    predicted,
    transactions_per_path,
    waiting_s,
)
from conclave.local.servers.postgres import PostgresServer
from conclave.runtime.client import Client
from conclave.testing.pipeline import Pipeline
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

_CORES = os.cpu_count() or 1
_PARTITIONS = 4  # of the stacks that benchmarks start
_SHARES = (0.03, 0.15, 0.3, 0.5)  # of the saturation: the rates at which one of each is measured
_CHECKED_SHARE = 0.5
_FULL = 0.9  # of the cores that the parts had at saturation
_ENDED_S = 300.0
# Among these is looked for how transactions are shared: at how many paths a second of a partition by two, and how it grows.
_HALVES = np.geomspace(1, 10_000, 40)
_STEEPNESSES = (1.0, 1.25, 1.5, 2.0, 3.0)


@dataclass(frozen=True, slots=True)
class Run:
    """What a stack did under one load. `cores_of`: what each part took, on average; `took_ms`: each request, at a rate."""

    replicas: int
    samples: int
    paths_per_s: float
    cores_of: Mapping[str, float]
    took_ms: Sequence[float] = ()

    def stack(self, cores: int) -> Stack:
        """As the model has it."""
        replicas = dict.fromkeys(ONE_PROCESS, self.replicas)
        return Stack(samples=self.samples, cores=cores, replicas=replicas, partitions=_PARTITIONS)


@asynccontextmanager
async def scaled(replicas: int) -> AsyncIterator[tuple[Pipeline, PostgresServer]]:
    """A stack with so many processes of each service that is scaled, warm."""
    async with stack({"CONCLAVE_SCRIPTED_LATENCY_MS": "0"}) as (pipeline, server):
        for number in range(2, replicas + 1):
            for name in ONE_PROCESS:
                await pipeline.add(name, f"{name}-{number}")
        await pipeline.until_ready()
        await _at_once(pipeline, 8, 50)
        yield pipeline, server


async def _measured(
    pipeline: Pipeline, server: PostgresServer, samples: int, work: Callable[[], Awaitable[tuple[int, Sequence[float]]]]
) -> Run:
    """What the parts took while `work` went on, which gives the number of requests and what each took."""
    found = leaders(pipeline, server)
    before, started = usage(found), time.perf_counter()
    num_requests, took_ms = await work()
    seconds = time.perf_counter() - started
    after = usage(found)
    cores_of: dict[str, float] = {}
    for label, each in after.items():
        part = label.partition("-")[0]
        cores_of[part] = cores_of.get(part, 0.0) + (each.cpu_s - before[label].cpu_s) / seconds
    replicas = sum(label.partition("-")[0] == "decoder" for label in found)
    return Run(replicas, samples, num_requests * samples / seconds, cores_of, took_ms)


async def _rest(seconds: float) -> tuple[int, Sequence[float]]:
    await asyncio.sleep(seconds)
    return 0, ()


async def _at_once(pipeline: Pipeline, samples: int, num_requests: int) -> tuple[int, Sequence[float]]:
    """So many requests at once, until the last is answered."""
    await _asked(pipeline, samples, [0.0] * num_requests)
    return num_requests, ()


async def _at_rate(pipeline: Pipeline, samples: int, rate: float, seconds: float) -> tuple[int, Sequence[float]]:
    """Requests at even gaps, whatever becomes of those before; milliseconds from when each was due."""
    took_ms = await _asked(pipeline, samples, [number / rate for number in range(max(2, int(rate * seconds)))])
    return len(took_ms), took_ms


async def _asked(pipeline: Pipeline, samples: int, due_s: Sequence[float]) -> list[float]:
    asked: dict[str, float] = {}
    took_ms: list[float] = []
    async with Client(pipeline.address) as client, client.follow(Topic.ANSWERS) as events, asyncio.TaskGroup() as tasks:

        async def publish() -> None:
            begun = time.perf_counter()
            for each in due_s:
                await asyncio.sleep(max(0.0, begun + each - time.perf_counter()))
                request = ReasoningRequested(
                    question=f"{uuid.uuid4()}?", request_id=new_request_id(), policy="fixed-8", max_samples=samples
                )
                asked[str(request.request_id)] = begun + each
                tasks.create_task(client.publish(request))

        tasks.create_task(publish())
        async with asyncio.timeout(_ENDED_S):
            async for _, event in events:
                if isinstance(event, AnswerReached | RequestFailed) and event.request_id in asked:
                    took_ms.append((time.perf_counter() - asked.pop(event.request_id)) * 1000)
                if len(took_ms) == len(due_s):
                    return took_ms
    raise AssertionError("answers ended before all had come")


async def one_of_each(seconds: float, num_requests: int) -> tuple[Run, list[Run], list[Run]]:
    """At rest; saturated, with 8 samples and with 2; and at growing rates."""
    async with scaled(1) as (pipeline, server):
        measured = partial(_measured, pipeline, server)
        rest = await measured(8, lambda: _rest(seconds / 2))
        full = [
            await measured(8, lambda: _at_once(pipeline, 8, num_requests)),
            await measured(2, lambda: _at_once(pipeline, 2, 2 * num_requests)),
        ]
        paced = []
        for share in _SHARES:
            rate = share * full[0].paths_per_s / 8
            paced.append(await measured(8, lambda rate=rate: _at_rate(pipeline, 8, rate, seconds)))  # type: ignore[misc]
            print(f"  {rate:7.1f} requests/s: {sum(paced[-1].cores_of.values()):.2f} cores", flush=True)
    return rest, full, paced


def fitted(rest: Run, full: Sequence[Run], paced: Sequence[Run], *, cores: int) -> Costs:
    """The costs that come nearest to what was measured of one of each, in relative terms."""
    runs = [*paced, *full]
    fits = {
        (half, steepness): {part: _cost(part, half, steepness, rest, runs) for part in rest.cores_of}
        for half in map(float, _HALVES)
        for steepness in _STEEPNESSES
    }
    shape = min(fits, key=lambda each: _error(fits[each], each[0], each[1], runs))
    costs = Costs(
        parts=fits[shape],
        half=shape[0],
        steepness=shape[1],
        used=sum(full[0].cores_of.values()) / cores,
        p50=Latency(0.0, 0.0),
        p99=Latency(0.0, 0.0),
    )
    return replace(costs, p50=_latency(costs, paced, 0.5, cores), p99=_latency(costs, paced, 0.99, cores))


def _cost(part: str, half: float, steepness: float, rest: Run, runs: Sequence[Run]) -> Cost:
    """A part's costs that come nearest to what it took."""
    idle = rest.cores_of[part]
    used = np.array([max(1e-6, run.cores_of[part]) for run in runs])
    rows = [
        [
            run.paths_per_s,
            run.paths_per_s / run.samples,
            run.paths_per_s * transactions_per_path(half, steepness, _PARTITIONS, run.paths_per_s),
        ]
        for run in runs
    ]
    found, _ = nnls(np.array(rows) / used[:, None] / 1e6, np.maximum(0.0, used - idle) / used)
    path_us, request_us, transaction_us = map(float, found)
    return Cost(idle, path_us, request_us, transaction_us)


def _error(parts: Mapping[str, Cost], half: float, steepness: float, runs: Sequence[Run]) -> float:
    """How far all parts together are off, as a sum of squares of relative errors."""
    costs = Costs(parts, half, steepness, 1.0, Latency(0.0, 0.0), Latency(0.0, 0.0))
    told = [sum(cores_of(costs, run.stack(_CORES), run.paths_per_s).values()) for run in runs]
    return sum((each / sum(run.cores_of.values()) - 1) ** 2 for each, run in zip(told, runs, strict=True))


def _latency(costs: Costs, paced: Sequence[Run], share: float, cores: int) -> Latency:
    """A percentile as a line over the mean waiting of the model; what ran full says nothing of it, and is left out."""
    fullest = _FULL * costs.used * cores
    paced = [run for run in paced if sum(run.cores_of.values()) < fullest] or paced[:1]
    waited_ms = [1000 * waiting_s(costs, run.stack(cores), run.paths_per_s) for run in paced]
    took_ms = np.array([percentile(list(run.took_ms), share) for run in paced])
    rows = np.array([[1.0, each] for each in waited_ms])
    (base_ms, waits), _ = nnls(rows / took_ms[:, None], np.ones(len(took_ms)))
    return Latency(float(base_ms), float(waits))


async def checked(costs: Costs, replicas: int, seconds: float, num_requests: int) -> tuple[list[Run], dict[str, float]]:
    """What so many of each did, and by how many percent the model is off."""
    async with scaled(replicas) as (pipeline, server):
        full = await _measured(pipeline, server, 8, lambda: _at_once(pipeline, 8, num_requests))
        rate = _CHECKED_SHARE * full.paths_per_s / 8
        paced = await _measured(pipeline, server, 8, lambda: _at_rate(pipeline, 8, rate, seconds))
    return [full, paced], errors(costs, full, [paced], f"{replicas} of each", cores=_CORES)


def errors(costs: Costs, full: Run, paced: Iterable[Run], name: str, *, cores: int) -> dict[str, float]:
    """By how many percent the model is off: of the saturation, of the cores and of the percentiles at each rate."""
    found = {
        f"{name}: paths/s": _percent(
            predicted(costs, full.stack(cores), 1e-9).most_per_s * full.samples, full.paths_per_s
        )
    }
    for run in paced:
        rate = run.paths_per_s / run.samples
        told = predicted(costs, run.stack(cores), rate)
        at = f"{name}, {rate:.0f} requests/s"
        found[f"{at}: cores"] = _percent(sum(told.cores_of.values()), sum(run.cores_of.values()))
        for share, ms in ((0.5, told.p50_ms), (0.99, told.p99_ms)):
            if ms is not None:
                found[f"{at}: p{share * 100:g}"] = _percent(ms, percentile(list(run.took_ms), share))
    return found


def _percent(told: float, measured: float) -> float:
    return round(100 * (told / measured - 1), 1)


async def measure(
    seconds: float, num_requests: int, replicas: Sequence[int]
) -> tuple[Costs, list[Run], dict[str, float]]:
    """The costs, all runs, and by how many percent the model is off, for those that it was fitted to and for the others."""
    rest, full, paced = await one_of_each(seconds, num_requests)
    costs = fitted(rest, full, paced, cores=_CORES)
    off = errors(costs, full[0], paced, "fitted, 1 of each", cores=_CORES)
    runs = [rest, *full, *paced]
    for each in replicas:
        more, of_more = await checked(costs, each, seconds, num_requests)
        runs += more
        off |= of_more
    return costs, runs, off


@click.command()
@click.option("--seconds", default=20.0, show_default=True, help="Of each rate.")
@click.option("--requests", "num_requests", default=2000, show_default=True, help="Of each saturation.")
@click.option(
    "--replicas", default="2,4", show_default=True, help="Of each service, that the model is checked against."
)
@click.option("--keep", is_flag=True, help="Write no costs that `conclave capacity` reads, only the results.")
def main(seconds: float, num_requests: int, replicas: str, keep: bool) -> None:
    """Measure what each part costs, and how well the model of that predicts other stacks."""
    costs, runs, off = asyncio.run(measure(seconds, num_requests, [int(each) for each in replicas.split(",") if each]))
    for name, percent in off.items():
        print(f"  {name:<48} off by {percent:+.1f} %")
    summary = [
        {**asdict(run), "took_ms": [percentile(list(run.took_ms), each) for each in (0.5, 0.99) if run.took_ms]}
        for run in runs
    ]
    print(record("scale", {"errors_percent": off, "costs": msgspec.to_builtins(costs), "runs": summary}))
    if not keep:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        measured = Measured(costs=costs, cpu=cpu_name(), cores=_CORES, commit=commit(), at=at, errors_percent=off)
        SHIPPED.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=2) + b"\n")
        print(SHIPPED)


if __name__ == "__main__":
    main()
