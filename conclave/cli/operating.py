"""For operators: `topics`, `check` and `dead-letters`."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click
from rich.console import Console
from rich.table import Table

from conclave.cli.endpoints import Endpoints, bootstrap_servers, find
from conclave.errors import ConclaveError
from conclave.runtime.client import Client
from conclave.runtime.dead_letters import DeadLetter
from conclave.runtime.topics import wrong_topics
from schemas import flow
from schemas.flow import Topic


@click.command()
@click.option("--json", "as_json", is_flag=True)
def topics(as_json: bool) -> None:
    """List the pipeline's topics: partitions, records, and what each group has yet to finish."""

    async def read() -> list[dict[str, object]]:
        async with Client(bootstrap_servers()) as client:
            return [asdict(state) for state in await client.topics()]

    rows = asyncio.run(read())
    if as_json:
        click.echo(json.dumps(rows))
        return
    table = _table("topic", "partitions", "records", "lag")
    for row in rows:
        lag = row["lag"]
        assert isinstance(lag, dict)
        table.add_row(
            str(row["name"]), str(row["partitions"]), str(row["records"]), ", ".join(f"{g} {n}" for g, n in lag.items())
        )
    _print(table)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    is_good: bool
    detail: str


@click.command()
@click.option("--json", "as_json", is_flag=True)
def check(as_json: bool) -> int:
    """Check that everything is reachable and configured. Exit status 1 when something is not."""
    found = find()
    findings = [*asyncio.run(_check_kafka(found)), *_check_postgres(found), *_check_services(found)]
    if as_json:
        click.echo(json.dumps([asdict(each) for each in findings]))
    else:
        table = _table("what", "state", "detail")
        for each in findings:
            table.add_row(each.what, "ok" if each.is_good else "BAD", each.detail)
        _print(table)
    return 0 if all(each.is_good for each in findings) else 1


async def _check_kafka(found: Endpoints) -> list[Finding]:
    if found.bootstrap_servers is None:
        return [
            Finding("kafka", False, "not known: start the stack with `conclave up`, or set CONCLAVE_BOOTSTRAP_SERVERS")
        ]
    try:
        wrong = await wrong_topics(found.bootstrap_servers)
    except ConclaveError as error:
        return [Finding("kafka", False, f"{found.bootstrap_servers}: {error}")]
    return [
        Finding("kafka", True, found.bootstrap_servers),
        Finding("topics", not wrong, "; ".join(wrong) or f"all {len(flow.TOPICS)} there, as they should be"),
    ]


def _check_postgres(found: Endpoints) -> Iterator[Finding]:
    if found.postgres_dsn is None:
        yield Finding("postgres", False, "not known: start the stack with `conclave up`, or set CONCLAVE_POSTGRES_DSN")
        return
    from conclave.store.migrate import current

    try:
        revision, newest = current(found.postgres_dsn)
    except (ConclaveError, Exception) as error:  # noqa: BLE001  whatever it is, an operator wants to read it
        yield Finding("postgres", False, str(error)[:200])
        return
    yield Finding("postgres", True, found.postgres_dsn.rpartition("@")[2])
    yield Finding("migrations", revision == newest, f"at {revision}, newest {newest}")


def _check_services(found: Endpoints) -> Iterator[Finding]:
    for name in sorted({*found.http, *(row.name for row in flow.SERVICES)} if found.http else ()):
        url = found.http.get(name)
        if url is None:
            yield Finding(name, False, "not started by this checkout's stack")
            continue
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=3) as response:
                body = json.loads(response.read())
            yield Finding(name, True, f"ready at {url}")
        except urllib.error.HTTPError as error:
            body = json.loads(error.read() or b"{}")
            yield Finding(name, False, f"not ready: {body}")
        except (OSError, ValueError) as error:
            yield Finding(name, False, f"{url}: {error}")


@click.group("dead-letters")
def dead_letters() -> None:
    """What no service could handle: list it, look at it, give it another try."""


@dead_letters.command("list")
@click.option("--topic", type=click.Choice([topic.value for topic in Topic]), help="Of one source topic.")
@click.option("--limit", default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def list_letters(topic: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, the latest last."""
    letters = asyncio.run(_letters(topic, limit))
    if as_json:
        for letter in letters:
            click.echo(json.dumps(_summary(letter)))
        return
    table = _table("id", "reason", "field", "error")
    for letter in letters:
        table.add_row(letter.id, letter.reason, letter.field, letter.error[:120])
    _print(table)


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
def show(letter_id: str) -> None:
    """Show one dead letter, named by the ID that `list` prints: headers, then the value as it was received."""
    letter = asyncio.run(_letter(letter_id))
    for name, value in letter.headers:
        click.echo(f"{name}: {value.decode('utf-8', 'replace')}")
    click.echo(f"key: {(letter.key or b'').decode('utf-8', 'replace')}")
    click.echo()
    click.echo((letter.value or b"").decode("utf-8", "backslashreplace"))


@dead_letters.command()
@click.argument("letter_id", metavar="ID", required=False)
@click.option("--all", "is_all", is_flag=True, help="All of --topic, or of every topic.")
@click.option("--topic", type=click.Choice([topic.value for topic in Topic]), help="With --all.")
def replay(letter_id: str | None, is_all: bool, topic: str | None) -> None:
    """Publish a dead letter (or all) to its source topic again, as it was received."""
    if (letter_id is None) is not is_all:
        raise click.UsageError("name one ID, or --all")

    async def run() -> int:
        letters = await _letters(topic, 100_000) if letter_id is None else [await _letter(letter_id)]
        async with Client(bootstrap_servers()) as client:
            for letter in letters:
                await client.replay(letter)
        return len(letters)

    click.echo(f"replayed {asyncio.run(run())}")


async def _letters(topic: str | None, limit: int) -> list[DeadLetter]:
    async with Client(bootstrap_servers()) as client:
        return await client.dead_letters(Topic(topic) if topic else None, limit)


async def _letter(letter_id: str) -> DeadLetter:
    source = letter_id.split(flow.DEAD_LETTER_SUFFIX)[0]
    if source not in {topic.value for topic in Topic}:
        raise click.UsageError(f"ID: expected <topic>{flow.DEAD_LETTER_SUFFIX}/<partition>/<offset>, got {letter_id!r}")
    found = next((letter for letter in await _letters(source, 100_000) if letter.id == letter_id), None)
    if found is None:
        raise click.ClickException(f"there is no dead letter {letter_id}")
    return found


def _summary(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "topic": letter.source_topic,
        "reason": letter.reason,
        "field": letter.field,
        "error": letter.error,
        "recorded_ms": letter.recorded_ms,
    }


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table) -> None:
    console = Console(highlight=False)
    # A pipe has no width: nothing is folded there.
    console.print(table, width=None if console.is_terminal else 400)
