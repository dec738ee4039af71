"""What is put under load: the stack that runs here, or one of this run alone with the scripted engine."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import click

from benchmarks.pipeline import stack
from conclave.cli.endpoints import brokers, find, postgres_dsn
from conclave.local.state import Folders, read_snapshot
from conclave.runtime.brokers import Brokers


@dataclass(frozen=True, slots=True)
class Target:
    """Where a stack is reached, and the processes that it is made of."""

    brokers: Brokers | str
    dsn: str
    urls: Mapping[str, str]  # of services
    leaders: Mapping[str, int]  # of every part that runs on this machine: the pid of its first process


@asynccontextmanager
async def running() -> AsyncIterator[Target]:
    """The stack that `conclave up` has started here, or that the environment names. Raises: click.ClickException."""
    found, snapshot = find(), read_snapshot(Folders.default())
    parts = snapshot.parts if snapshot is not None else ()
    leaders = {part.name: part.mark.pid for part in parts if part.mark is not None and part.mark.is_alive()}
    if not leaders:
        click.echo("no process of the stack runs here: memory and CPU are not measured", err=True)
    yield Target(brokers(), postgres_dsn(), found.http, leaders)


@asynccontextmanager
async def scripted(latency_ms: float, max_running: int) -> AsyncIterator[Target]:
    """A stack of this run alone; paths take `latency_ms` on average, `max_running` at once."""
    settings = {"CONCLAVE_SCRIPTED_LATENCY_MS": str(latency_ms), "CONCLAVE_MAX_RUNNING": str(max_running)}
    async with stack(settings) as (pipeline, server):
        services = pipeline.services
        leaders = {name: each.process.mark.pid for name, each in services.items() if each.process is not None}
        servers = {"kafka": pipeline.broker.pid, "postgres": server.pid}
        leaders |= {name: pid for name, pid in servers.items() if pid is not None}
        urls = {name: each.url for name, each in services.items()}
        yield Target(pipeline.address, server.dsn(), urls, leaders)
