"""`python -m benchmarks.gateway`: many clients of one gateway, killed in the middle; is every accepted request answered once?

Clients ramp up from a tenth of their number, and each asks, waits and asks again, as long as the time lasts. Halfway the gateway is
killed and started again: clients repeat what they were waiting for, under the same idempotency key. Accuracy is what this is about;
its times belong to the machine that it ran on.
"""

import asyncio
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import asyncpg
import click
import httpx2

from benchmarks.measuring import percentile, record
from benchmarks.pipeline import stack
from conclave.local.machine.ports import free_port
from conclave.testing.pipeline import Pipeline

_AGAIN_S = 0.5
_LAST_S = 90.0  # for what is still open when the time is over


@dataclass
class Tally:
    """What came of it."""

    accepted: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)


async def _client(http: httpx2.AsyncClient, number: int, until: float, tally: Tally) -> None:
    """Asks one question after the other, and leaves none behind."""
    asked = 0
    while time.monotonic() < until:
        started, key = time.monotonic(), f"{number}-{asked}"
        question = {"question": f"How much is {number} and {asked}?", "max_samples": 4}
        taken = await _persistent(http, "POST", "/v1/requests", tally, json=question, headers={"Idempotency-Key": key})
        request_id = str(taken["id"])
        tally.accepted.add(request_id)
        last = max(until, time.monotonic()) + _LAST_S
        while time.monotonic() < last:
            state = await _persistent(http, "GET", f"/v1/requests/{request_id}", tally, params={"wait_s": 20})
            if state["status"] == "answered":
                tally.answered.add(request_id)
                tally.latencies_s.append(time.monotonic() - started)
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


async def _disturb(pipeline: Pipeline, tally: Tally, seconds: float) -> None:
    """Notes the gateway's memory each second, and kills it halfway."""
    service = pipeline.services["gateway"]
    for second in range(int(seconds)):
        if second == int(seconds / 2):
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


async def measure(num_clients: int, seconds: float) -> dict[str, object]:
    """What came of so many clients in so long."""
    port, tally = free_port(), Tally()
    settings = {"CONCLAVE_GATEWAY_PORT": str(port), "CONCLAVE_GATEWAY_MAX_WAITING": str(10 * num_clients)}
    async with stack(settings) as (pipeline, server):
        limits = httpx2.Limits(max_connections=num_clients, max_keepalive_connections=num_clients)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as http:
            until = time.monotonic() + seconds
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_disturb(pipeline, tally, seconds))
                for number in range(num_clients):
                    tasks.create_task(_client(http, number, until, tally))
                    if number >= num_clients // 10:
                        await asyncio.sleep(seconds / 4 / num_clients)
        twice = await _recorded_twice(server.dsn(), len(tally.accepted))
    return {
        "clients": num_clients,
        "seconds": seconds,
        "accepted": len(tally.accepted),
        "answered": len(tally.answered),
        "lost": len(tally.accepted - tally.answered),
        **twice,
        "refused": dict(tally.refused),
        "p50_s": round(percentile(tally.latencies_s, 0.5), 3),
        "p95_s": round(percentile(tally.latencies_s, 0.95), 3),
        "p99_s": round(percentile(tally.latencies_s, 0.99), 3),
        "memory_mib_first_last_largest": [
            round(each) for each in (tally.memory_mib[0], tally.memory_mib[-1], max(tally.memory_mib))
        ],
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
@click.option("--record/--no-record", "is_recorded", default=False, help="Write the result to benchmarks/results/.")
def main(num_clients: int, seconds: float, is_recorded: bool) -> None:
    """Runs it, and ends with status 1 when a request was lost or answered to nobody."""
    result = asyncio.run(measure(num_clients, seconds))
    for name, figure in result.items():
        print(f"{name:<32} {figure}")
    if is_recorded:
        print(record("gateway", result))
    sys.exit(1 if result["lost"] or result["recorded_beyond_accepted"] else 0)


if __name__ == "__main__":
    main()
