"""`python -m benchmarks.gateway`: many clients of one gateway, killed in the middle; is every accepted request answered once?

Clients ramp up from a tenth of their number in ten steps, and each asks, waits and asks again, as long as the time lasts. Halfway
the gateway is killed and started again (`--no-kill`: not): clients repeat what they were waiting for, under the same idempotency
key. What is told: whether anything was lost, and how long each stage of a request took, at each number of clients. Accuracy is
what this is about; its times belong to the machine that it ran on, clients and all services together.
"""

import asyncio
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import click
import httpx2

from benchmarks.measuring import percentile, record
from benchmarks.pipeline import stack
from conclave.local.machine.ports import free_port
from conclave.testing.pipeline import Pipeline

_AGAIN_S = 0.5
_STEPS = 10
_LAST_S = 90.0  # for what is still open when the time is over


@dataclass(frozen=True, slots=True)
class Took:
    """A request that was answered: how many clients there were, and when what of it was over, in seconds since 1970."""

    request_id: str
    num_clients: int
    began: float
    taken: float
    told: float


@dataclass
class Tally:
    """What came of it."""

    accepted: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    took: list["Took"] = field(default_factory=list)
    num_clients: int = 0  # at the moment
    memory_mib: list[float] = field(default_factory=list)


async def _client(http: httpx2.AsyncClient, number: int, until: float, tally: Tally) -> None:
    """Asks one question after the other, and leaves none behind."""
    asked = 0
    while time.monotonic() < until:
        began, key, beside = time.time(), f"{number}-{asked}", tally.num_clients
        question = {"question": f"How much is {number} and {asked}?", "max_samples": 4}
        taken = await _persistent(http, "POST", "/v1/requests", tally, json=question, headers={"Idempotency-Key": key})
        request_id, taken_at = str(taken["id"]), time.time()
        tally.accepted.add(request_id)
        last = max(until, time.monotonic()) + _LAST_S
        while time.monotonic() < last:
            state = await _persistent(http, "GET", f"/v1/requests/{request_id}", tally, params={"wait_s": 20})
            if state["status"] == "answered":
                tally.answered.add(request_id)
                tally.took.append(Took(request_id, beside, began, taken_at, time.time()))
                break
        asked += 1


async def _persistent(
    http: httpx2.AsyncClient, method: str, path: str, tally: Tally, **sent: object
) -> dict[str, object]:
    """The answer to a call that is made again until there is one; what was refused meanwhile is counted."""
    while True:
        try:
            response = await http.request(method, path, **sent)  # type: ignore[arg-type]
            if response.is_success:
                answer: dict[str, object] = response.json()
                return answer
            tally.refused[str(response.status_code)] += 1
        except httpx2.TransportError as error:
            tally.refused[type(error).__name__] += 1
        await asyncio.sleep(_AGAIN_S)


async def _disturb(pipeline: Pipeline, tally: Tally, seconds: float, *, is_killed: bool) -> None:
    """Notes the gateway's memory each second, and kills it halfway."""
    service = pipeline.services["gateway"]
    for second in range(int(seconds)):
        if second == int(seconds / 2) and is_killed:
            service.send(signal.SIGKILL)
            await service.stop()
            await service.start()
        elif service.process is not None:
            tally.memory_mib.append(_memory_mib(service.process.mark.pid))
        await asyncio.sleep(1)


def _memory_mib(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/status") as lines:
            return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)
    except OSError:
        return 0.0


async def measure(num_clients: int, seconds: float, *, is_killed: bool) -> dict[str, object]:
    """What came of so many clients in so long."""
    port, tally = free_port(), Tally()
    settings = {"CONCLAVE_GATEWAY_PORT": str(port), "CONCLAVE_GATEWAY_MAX_WAITING": str(10 * num_clients)}
    async with stack(settings) as (pipeline, server):
        limits = httpx2.Limits(max_connections=num_clients, max_keepalive_connections=num_clients)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as http:
            until = time.monotonic() + seconds
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_disturb(pipeline, tally, seconds, is_killed=is_killed))
                for step in range(_STEPS):
                    before = tally.num_clients
                    tally.num_clients = max(1, num_clients * (step + 1) // _STEPS)
                    for number in range(before, tally.num_clients):
                        tasks.create_task(_client(http, number, until, tally))
                    await asyncio.sleep(seconds / _STEPS)
        twice = await _recorded_twice(server.dsn(), len(tally.accepted))
        stages = await _stages(server.dsn(), tally.took)
    return {
        "clients": num_clients,
        "seconds": seconds,
        "accepted": len(tally.accepted),
        "answered": len(tally.answered),
        "lost": len(tally.accepted - tally.answered),
        **twice,
        "refused": dict(tally.refused),
        "ms_by_clients_and_stage": stages,
        "memory_mib_first_last_largest": [
            round(each) for each in (tally.memory_mib[0], tally.memory_mib[-1], max(tally.memory_mib))
        ],
    }


# From one moment of a request to the next, by what is known of it.
_STAGES = {
    "taken by the gateway": ("began", "taken"),
    "planned": ("taken", "planned"),
    "decoded and voted on": ("planned", "decided"),
    "concluded": ("decided", "answered"),
    "told": ("answered", "told"),
    "all of it": ("began", "told"),
}
_MOMENTS = """
    SELECT a.request_id::text, extract(epoch FROM p.planned_at)::float8 AS planned,
           extract(epoch FROM max(v.decided_at))::float8 AS decided, extract(epoch FROM a.answered_at)::float8 AS answered
    FROM answers a JOIN plans p USING (asked_at, request_id) JOIN verdicts v USING (asked_at, request_id)
    GROUP BY a.request_id, p.planned_at, a.answered_at
"""


async def _stages(dsn: str, took: Sequence[Took]) -> dict[str, dict[str, dict[str, float]]]:
    """Percentiles of each stage in milliseconds, at each number of clients. What was told before it was recorded took no time."""
    connection = await asyncpg.connect(dsn)
    try:
        moments = {row["request_id"]: dict(row) for row in await connection.fetch(_MOMENTS)}
    finally:
        await connection.close()
    spans: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in took:
        known = {"began": each.began, "taken": each.taken, "told": each.told, **moments.get(each.request_id, {})}
        for name, (first, last) in _STAGES.items():
            if first in known and last in known:
                spans[each.num_clients][name].append(1000 * max(0.0, known[last] - known[first]))
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {
        str(num_clients): {
            stage: {name: round(percentile(values, share), 1) for name, share in shares.items()}
            for stage, values in stages.items()
        }
        for num_clients, stages in sorted(spans.items())
    }


async def _recorded_twice(dsn: str, num_accepted: int) -> dict[str, int]:
    """How many requests the record has beyond those that were accepted, and how many without an answer."""
    connection = await asyncpg.connect(dsn)
    try:
        num_requests = await connection.fetchval("SELECT count(*) FROM requests")
        num_entries = await connection.fetchval("SELECT count(*) FROM gateway_requests")
    finally:
        await connection.close()
    return {
        "recorded_beyond_accepted": num_requests - num_accepted,
        "entered_beyond_accepted": num_entries - num_accepted,
    }


@click.command()
@click.option("--clients", "num_clients", default=500, show_default=True)
@click.option("--seconds", default=120.0, show_default=True)
@click.option("--kill/--no-kill", "is_killed", default=True, show_default=True, help="The gateway, halfway.")
@click.option("--record/--no-record", "is_recorded", default=False, help="Write the result to benchmarks/results/.")
def main(num_clients: int, seconds: float, is_killed: bool, is_recorded: bool) -> None:
    """Runs it, and ends with status 1 when a request was lost or answered to nobody."""
    result = asyncio.run(measure(num_clients, seconds, is_killed=is_killed))
    by_clients: Any = result["ms_by_clients_and_stage"]
    for name, figure in result.items():
        if figure is not by_clients:
            print(f"{name:<32} {figure}")
    for clients, stages in by_clients.items():
        for stage, shares in stages.items():
            print(
                f"{clients:>6} clients  {stage:<22} "
                + "  ".join(f"{name} {ms:>9.1f} ms" for name, ms in shares.items())
            )
    if is_recorded:
        print(record("gateway", result))
    sys.exit(1 if result["lost"] or result["recorded_beyond_accepted"] else 0)


if __name__ == "__main__":
    main()
