"""For operators: `topics` and `check`."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click

from conclave.cli.endpoints import BOOTSTRAP, DSN, Endpoints, brokers, find
from conclave.cli.output import print_rows
from conclave.cli.readiness import not_ready
from conclave.errors import ConclaveError
from conclave.runtime.client import Client, TopicState
from conclave.runtime.topics import wrong_topics
from schemas import flow


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def topics(as_json: bool) -> None:
    """List the pipeline's topics: partitions, records, and what each group has yet to finish."""
    states = asyncio.run(_states())
    if as_json:
        click.echo(json.dumps([asdict(state) for state in states]))
        return
    rows = [
        (state.name, str(state.partitions), str(state.records), ", ".join(f"{g} {n}" for g, n in state.lag.items()))
        for state in states
    ]
    print_rows(("topic", "partitions", "records", "lag"), rows)


async def _states() -> list[TopicState]:
    async with Client(brokers()) as client:
        return await client.topics()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    is_good: bool
    detail: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def check(as_json: bool) -> int:
    """Check that everything is reachable and configured. Exit status 1 when something is not."""
    found = find()
    findings = [*asyncio.run(_check_kafka(found)), *_check_postgres(found), *asyncio.run(_check_services(found))]
    if as_json:
        click.echo(json.dumps([asdict(each) for each in findings]))
    else:
        rows = [(each.what, "ok" if each.is_good else "BAD", each.detail) for each in findings]
        print_rows(("what", "state", "detail"), rows)
    return 0 if all(each.is_good for each in findings) else 1


async def _check_kafka(found: Endpoints) -> list[Finding]:
    if found.bootstrap_servers is None:
        return [Finding("kafka", False, f"not known: start the stack with `conclave up`, or set {BOOTSTRAP}")]
    try:
        wrong = await wrong_topics(brokers())
    except ConclaveError as error:
        return [Finding("kafka", False, f"{found.bootstrap_servers}: {error}")]
    return [
        Finding("kafka", True, found.bootstrap_servers),
        Finding("topics", not wrong, "; ".join(wrong) or f"all {len(flow.TOPICS)} there, as they should be"),
    ]


def _check_postgres(found: Endpoints) -> Iterator[Finding]:
    if found.postgres_dsn is None:
        yield Finding("postgres", False, f"not known: start the stack with `conclave up`, or set {DSN}")
        return
    from conclave.store.migrate import current

    try:
        revision, newest = current(found.postgres_dsn)
    except Exception as error:  # noqa: BLE001  whatever it is, an operator wants to read it
        yield Finding("postgres", False, str(error)[:200])
        return
    yield Finding("postgres", True, found.postgres_dsn.rpartition("@")[2])
    yield Finding("migrations", revision == newest, f"at {revision or 'none'}, newest {newest}")


async def _check_services(found: Endpoints) -> list[Finding]:
    """What each service says of itself. Those of another machine are not known here, and their own probes ask them."""
    if not found.http:
        return []
    names = sorted({*found.http, *flow.SERVICES})
    return list(await asyncio.gather(*(_readiness(name, found) for name in names)))


async def _readiness(name: str, found: Endpoints) -> Finding:
    url = found.http.get(name)
    if url is None:
        return Finding(name, False, "not started by this checkout's stack")
    reason = await not_ready(url)
    web = f", serves {found.web[name]}" if name in found.web else ""
    return Finding(name, reason is None, reason or f"ready at {url}{web}")
