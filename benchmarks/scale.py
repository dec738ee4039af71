"""`python -m benchmarks.scale`: what each part costs, fitted to one stack, and how well the model of that predicts others.

    1. one of each service      CPU by part at rest, at four rates and at saturation, with 8 samples and with 2
    2. fit                      conclave.domain.capacity.costs: CPU by least squares of relative errors over paths, requests and
                                counted transactions, nothing below zero; then the time of a hop, by playing the same rates
    3. 2 and 4 of each          their saturation, and their percentiles at half of it, against what the model says of them

The costs go to .conclave/capacity.json, which `conclave capacity` reads; all figures to benchmarks/results/scale.json. The
driver shares the machine: what it takes is left out of the costs, and out of `used`, the share of the cores that the parts had.
"""

import asyncio
import os
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from math import log

import click
import msgspec
import numpy as np
from scipy.optimize import nnls

from benchmarks.load.machine import usage
from benchmarks.load.stacks import leaders
from benchmarks.measuring import commit, cpu_name, percentile, record
from benchmarks.stack import counted, stack
from conclave.cli.capacity import OWN, Measured
from conclave.domain.capacity.costs import SERVICES, Cost, Costs, Played, Stack
from conclave.domain.capacity.prediction import at_once, at_rate, cores_of, percentiles_ms
from conclave.local.servers.postgres import PostgresServer
from conclave.local.state import Folders
from conclave.runtime.client import Client
from conclave.testing.pipeline import Pipeline
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

_CORES = len(os.sched_getaffinity(0))
_PARTITIONS = 4  # of the stacks that benchmarks start
_SHARES = (0.03, 0.15, 0.3, 0.5)  # of the saturation: the rates at which one of each is measured
_CHECKED_SHARE = 0.5
_ENDED_S = 300.0
# Among these is looked for what is not CPU of a part: the way from a commit to the next service, and how uneven jobs are.
_HOPS_MS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
_UNEVEN = (0.0, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Run:
    """What a stack did under one load. `cores_of`: what each part took, on average; `transactions`: of each service, a second;
    `took_ms`: each request, at a rate."""

    replicas: int
    samples: int
    paths_per_s: float
    cores_of: Mapping[str, float]
    transactions: Mapping[str, float]
    num_requests: int
    took_ms: Sequence[float] = ()

    def stack(self, cores: int) -> Stack:
        """As the model has it."""
        replicas = dict.fromkeys(SERVICES, self.replicas)
        return Stack(samples=self.samples, cores=cores, replicas=replicas, partitions=_PARTITIONS)


@asynccontextmanager
async def scaled(replicas: int) -> AsyncIterator[tuple[Pipeline, PostgresServer]]:
    """A stack with so many processes of each service that is scaled, warm."""
    async with stack({"CONCLAVE_SCRIPTED_LATENCY_MS": "0"}) as (pipeline, server):
        for number in range(2, replicas + 1):
            for name in SERVICES:
                await pipeline.add(name, f"{name}-{number}")
        await pipeline.until_ready()
        await _at_once(pipeline, 8, 50)
        yield pipeline, server


async def _measured(
    pipeline: Pipeline, server: PostgresServer, samples: int, work: Callable[[], Awaitable[tuple[int, Sequence[float]]]]
) -> Run:
    """What the parts took while `work` went on, which gives the number of requests and what each took."""
    found = leaders(pipeline, server)
    committed = await asyncio.to_thread(_committed, pipeline)
    before, started = usage(found), time.perf_counter()
    num_requests, took_ms = await work()
    seconds = time.perf_counter() - started
    after = usage(found)
    more = await asyncio.to_thread(_committed, pipeline)
    transactions = {part: (each - committed[part]) / seconds for part, each in more.items()}
    cores_of: dict[str, float] = {}
    for label, each in after.items():
        part = label.partition("-")[0]
        cores_of[part] = cores_of.get(part, 0.0) + (each.cpu_s - before[label].cpu_s) / seconds
    replicas = sum(label.partition("-")[0] == "decoder" for label in found)
    return Run(replicas, samples, num_requests * samples / seconds, cores_of, transactions, num_requests, took_ms)


def _committed(pipeline: Pipeline) -> Counter[str]:
    """Transactions of each service since its processes started."""
    found: Counter[str] = Counter()
    for name, _, value in counted(pipeline, "conclave_transaction_seconds_count"):
        found[name.partition("-")[0]] += round(value)
    return found


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
    parts = {part: _cost(part, rest, runs) for part in rest.cores_of}
    used = max(sum(run.cores_of.values()) for run in runs) / cores
    costs = Costs(parts=parts, hop_ms=0.0, uneven=_UNEVEN[1], used=used)
    distance = partial(_distance, paced=paced, cores=cores)
    costs = min((replace(costs, hop_ms=each) for each in _HOPS_MS), key=distance)
    return min((replace(costs, uneven=each) for each in _UNEVEN), key=distance)


def _cost(part: str, rest: Run, runs: Sequence[Run]) -> Cost:
    """A part's costs that come nearest to what it took."""
    idle = rest.cores_of[part]
    used = np.array([max(1e-6, run.cores_of[part]) for run in runs])
    rows = [[run.paths_per_s, run.paths_per_s / run.samples, _transactions(part, run)] for run in runs]
    found, _ = nnls(np.array(rows) / used[:, None] / 1e6, np.maximum(0.0, used - idle) / used)
    path_us, request_us, transaction_us = map(float, found)
    return Cost(idle, path_us, request_us, transaction_us)


def _transactions(part: str, run: Run) -> float:
    """A second, that a part has to do with."""
    if part == "kafka":
        return sum(each for service, each in run.transactions.items() if service != "recorder")
    return run.transactions.get("recorder" if part == "postgres" else part, 0.0)


def _distance(costs: Costs, paced: Sequence[Run], cores: int) -> float:
    """How far percentiles are off, as a sum of squares of logarithms."""
    told = [(percentiles_ms(_played(costs, run, cores)), run) for run in paced]
    return sum(
        log(ms / percentile(list(run.took_ms), share)) ** 2
        for both, run in told
        for ms, share in zip(both, (0.5, 0.99), strict=True)
    )


def _played(costs: Costs, run: Run, cores: int) -> Played:
    """The same requests, at the same gaps."""
    return at_rate(costs, run.stack(cores), run.paths_per_s / run.samples, len(run.took_ms), is_even=True)


async def checked(costs: Costs, replicas: int, seconds: float, num_requests: int) -> tuple[list[Run], dict[str, float]]:
    """What so many of each did, and by how many percent the model is off."""
    async with scaled(replicas) as (pipeline, server):
        full = await _measured(pipeline, server, 8, lambda: _at_once(pipeline, 8, num_requests))
        rate = _CHECKED_SHARE * full.paths_per_s / 8
        paced = await _measured(pipeline, server, 8, lambda: _at_rate(pipeline, 8, rate, seconds))
    return [full, paced], errors(costs, full, [paced], f"{replicas} of each", cores=_CORES)


def errors(costs: Costs, full: Run, paced: Iterable[Run], name: str, *, cores: int) -> dict[str, float]:
    """By how many percent the model is off: of the saturation, of the cores and of the percentiles at each rate."""
    burst = at_once(costs, full.stack(cores), full.num_requests)
    found = {f"{name}: paths/s": _percent(full.num_requests * full.samples / burst.lasted_s, full.paths_per_s)}
    for run in paced:
        played = _played(costs, run, cores)
        at = f"{name}, {run.paths_per_s / run.samples:.0f} requests/s"
        told = sum(cores_of(costs, run.stack(cores), played).values())
        found[f"{at}: cores"] = _percent(told, sum(run.cores_of.values()))
        for share, ms in zip((0.5, 0.99), percentiles_ms(played), strict=True):
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
        own = Folders.default().root / OWN
        own.parent.mkdir(exist_ok=True)
        own.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=2) + b"\n")
        print(own)


if __name__ == "__main__":
    main()
