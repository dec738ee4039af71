"""`conclave experiment`: what there is and runs, and to start, stop, kill or promote it, with who and why."""

import asyncio
import getpass
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from conclave.cli.endpoints import bootstrap_servers
from conclave.cli.output import print_rows
from conclave.cli.policies import load_policies
from conclave.experiments import Found, load, pinned
from conclave.experiments.changes import ended, newest, started
from conclave.policies import PolicySet
from conclave.runtime.client import Client
from schemas.events import ExperimentChanged
from schemas.experiments import Change
from schemas.flow import Topic

_FOLDER = "CONCLAVE_EXPERIMENTS_DIR"


@click.group()
def experiment() -> None:
    """Experiments: policies compared on live traffic. Files ship, or lie in the folder that CONCLAVE_EXPERIMENTS_DIR names."""


@experiment.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
@click.option("--files", "only_files", is_flag=True, help="Do not ask the broker what runs.")
def list_all(as_json: bool, only_files: bool) -> int:
    """List the experiments of all files and what was done last to each. Exit status 1 when any file is wrong."""
    found, _ = _files(None)
    known = {} if only_files else asyncio.run(_known())
    columns = ("name", "state", "revision", "mode", "arms", "by", "why")
    rows = []
    for name in sorted({*found.rows, *known}):
        change = known.get(name)
        definition = change.definition if change is not None else found.rows[name].experiment
        state = "never started" if change is None else _STATES[change.change]
        arms = ", ".join(f"{arm} = {each.policy}" for arm, each in definition.arms.items())
        done = ("", "", "") if change is None else (str(change.revision), change.by, change.why)
        rows.append((name, state, done[0], definition.mode.value, arms, done[1], done[2]))
    if as_json:
        click.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows]))
    else:
        print_rows(columns, rows)
    return _tell(found)


@experiment.command()
@click.argument("name")
def show(name: str) -> None:
    """Show an experiment as it would start: every default filled in, its policies' digests, and its own."""
    found, policies = _files(None)
    if name not in found.rows:
        raise click.ClickException(f"no experiment {name!r}; there are: {', '.join(found.rows)}")
    definition = pinned(found.rows[name].experiment, policies)
    click.echo(msgspec.json.format(msgspec.json.encode(definition), indent=2).decode())


@experiment.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
def check(folder: Path | None) -> int:
    """Check the experiments that ship together with those of FOLDER. Exit status 1, and a line a problem, when any is wrong."""
    found, _ = _files(folder)
    if not found.problems:
        click.echo(f"{len(found.rows)} experiments, all sound")
    return _tell(found)


def _who_and_why(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every change."""
    by = click.option("--by", default=getpass.getuser, show_default="the user", help="Who does it.")
    return by(click.option("--why", required=True, help="Why; it is kept.")(command))


@experiment.command()
@click.argument("name")
@_who_and_why
def start(name: str, by: str, why: str) -> None:
    """Start NAME as its file defines it; what ran under that name before is over."""
    found, policies = _files(None)
    if found.problems:
        raise click.ClickException("\n".join(map(str, found.problems)))
    if name not in found.rows:
        raise click.ClickException(f"no experiment {name!r}; there are: {', '.join(found.rows)}")
    definition = pinned(found.rows[name].experiment, policies)
    _publish(lambda known: started(definition, known.get(name), by=by, why=why, now_ms=_now_ms()))


@experiment.command()
@click.argument("name")
@_who_and_why
def stop(name: str, by: str, why: str) -> None:
    """Stop NAME: no more requests are assigned; feedback on those that were still counts."""
    _publish(lambda known: ended(known.get(name), Change.STOP, by=by, why=why, now_ms=_now_ms()))


@experiment.command()
@click.argument("name")
@_who_and_why
def kill(name: str, by: str, why: str) -> None:
    """Stop NAME because it does harm."""
    _publish(lambda known: ended(known.get(name), Change.KILL, by=by, why=why, now_ms=_now_ms()))


@experiment.command()
@click.argument("name")
@click.argument("arm")
@_who_and_why
def promote(name: str, arm: str, by: str, why: str) -> None:
    """Give all traffic of NAME to ARM."""
    _publish(lambda known: ended(known.get(name), Change.PROMOTE, by=by, why=why, now_ms=_now_ms(), arm=arm))


_STATES = {
    Change.START: "running",
    Change.STOP: "stopped",
    Change.KILL: "killed",
    Change.PROMOTE: "promoted",
}


def _publish(change: Callable[[dict[str, ExperimentChanged]], ExperimentChanged]) -> None:
    event = asyncio.run(_published(change))
    click.echo(f"{event.experiment}: {_STATES[event.change]}, revision {event.revision}")


async def _published(change: Callable[[dict[str, ExperimentChanged]], ExperimentChanged]) -> ExperimentChanged:
    async with Client(bootstrap_servers()) as client:
        event = change(newest(await client.whole(Topic.EXPERIMENTS)))
        await client.publish(event)
        return event


async def _known() -> dict[str, ExperimentChanged]:
    async with Client(bootstrap_servers()) as client:
        return newest(await client.whole(Topic.EXPERIMENTS))


def _files(folder: Path | None) -> tuple[Found, PolicySet]:
    policies, problems = load_policies(None)
    if problems:
        raise click.ClickException("\n".join(map(str, problems)))
    named = os.environ.get(_FOLDER)
    folder = folder or (Path(named) if named else None)
    return load(*([folder] if folder else []), policies=policies), policies


def _tell(found: Found) -> int:
    for problem in found.problems:
        click.echo(str(problem), err=True)
    return 1 if found.problems else 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
