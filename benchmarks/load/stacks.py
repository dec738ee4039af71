"""What is put under load: the stack that runs here, or one of this run alone with the scripted engine."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from benchmarks.load.killing import Kill
from benchmarks.memory import inside as inside_of
from benchmarks.stack import stack
from conclave.cli.endpoints import brokers, find, postgres_dsn
from conclave.extensions import SETTING
from conclave.local.machine.ports import LOOPBACK, free_port
from conclave.local.servers.postgres import PostgresServer
from conclave.local.state import Folders, read_snapshot
from conclave.runtime.brokers import Brokers
from conclave.testing.pipeline import Pipeline

KAFKA, POSTGRES, GATEWAY = "kafka", "postgres", "gateway"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a stack is reached, and the processes that it is made of."""

    brokers: Brokers | str
    dsn: str
    urls: Mapping[str, str]  # of services
    leaders: Callable[
        [], Mapping[str, int]
    ]  # of every part that runs on this machine now: the pid of its first process
    gateway_url: str | None = None
    kill: Kill | None = None  # kills a part, and returns when the stack is ready again; None: nothing may be killed


@asynccontextmanager
async def running() -> AsyncIterator[Target]:
    """The stack that `conclave up` has started here, or that the environment names. Raises: click.ClickException."""
    found, snapshot = find(), read_snapshot(Folders.default())
    parts = snapshot.parts if snapshot is not None else ()
    leaders = {part.name: part.mark.pid for part in parts if part.mark is not None and part.mark.is_alive()}
    if not leaders:
        click.echo("no process of the stack runs here: memory and CPU are not measured", err=True)
    yield Target(brokers(), postgres_dsn(), found.http, lambda: leaders, found.web.get(GATEWAY))


@asynccontextmanager
async def scripted(latency_ms: float, max_running: int, inside: Path | None = None) -> AsyncIterator[Target]:
    """A stack of this run alone; paths take `latency_ms` on average, `max_running` at once.

    With `inside` its services write there what their allocators hold (benchmarks.memory).
    """
    port = free_port()
    settings = {
        "CONCLAVE_SCRIPTED_LATENCY_MS": str(latency_ms),
        "CONCLAVE_MAX_RUNNING": str(max_running),
        "CONCLAVE_GATEWAY_PORT": str(port),
    }
    if inside is not None:
        settings |= {SETTING: inside_of.__name__, inside_of.FOLDER: str(inside)}
    async with stack(settings) as (pipeline, server):
        yield target_of(pipeline, server, gateway_url=f"http://{LOOPBACK}:{port}")


def target_of(pipeline: Pipeline, server: PostgresServer, *, gateway_url: str) -> Target:
    """A stack of processes, any of which may be killed."""

    async def kill(part: str) -> None:
        match part:
            case "kafka":
                await pipeline.broker.kill()
                await pipeline.broker.start()
            case "postgres":
                await server.kill()
                await server.start()
            case _:
                service = pipeline.services[part]
                await service.kill()
                await service.start()
        await pipeline.until_ready(limit_s=120.0)

    urls = {name: each.url for name, each in pipeline.services.items()}
    return Target(pipeline.address, server.dsn(), urls, partial(leaders, pipeline, server), gateway_url, kill)


def leaders(pipeline: Pipeline, server: PostgresServer) -> dict[str, int]:
    """The first process of each part of a stack, as it is now."""
    found = {name: each.process.mark.pid for name, each in pipeline.services.items() if each.process is not None}
    servers = {KAFKA: pipeline.broker.pid, POSTGRES: server.pid}
    return found | {name: pid for name, pid in servers.items() if pid is not None}
