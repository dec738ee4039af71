"""`conclave experiment`: what there is and runs, and to start, stop, kill or promote it, with who and why."""

import asyncio
import getpass
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from conclave.cli.endpoints import brokers, postgres_dsn
from conclave.cli.output import print_rows
from conclave.cli.policies import load_policies
from conclave.domain.experiments.reporting import ArmReport, Report
from conclave.domain.experiments.reporting import report as report_of
from conclave.domain.experiments.verification import Deviation, check_assignments, check_evidence, check_weights
from conclave.domain.statistics.estimating import Estimate
from conclave.experiments import Found, load, pinned
from conclave.experiments.changes import began_at, ended, newest, started
from conclave.policies import PolicySet
from conclave.runtime.client import Client
from conclave.store.learning import Learning
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


@experiment.command()
@click.argument("name")
@click.option(
    "--recount/--no-recount", default=True, show_default=True, help="Count the evidence of each version again."
)
def verify(name: str, recount: bool) -> int:
    """Compute every assignment and every version of NAME's weights again. Exit status 1, and a line a deviation."""
    report = asyncio.run(_verified(name, recount=recount))
    for deviation in report.deviations:
        click.echo(str(deviation), err=True)
    click.echo(
        f"{name}: {report.num_versions} versions of the weights ({report.num_recounted} counted again), "
        f"{report.num_assignments} assignments, {len(report.deviations)} deviations"
    )
    return 1 if report.deviations else 0


@dataclass(frozen=True, slots=True)
class _Report:
    num_versions: int
    num_recounted: int
    num_assignments: int
    deviations: list[Deviation]


async def _verified(name: str, *, recount: bool) -> _Report:
    learning = Learning(postgres_dsn())
    try:
        changes, versions = await learning.changes(name), await learning.versions(name)
        assigned = await learning.assignments(name)
        if not changes:
            raise click.ClickException(f"no experiment {name!r} was ever started, as far as is recorded")
        deviations = [*check_weights(changes, versions), *check_assignments(changes, versions, assigned)]
        recounted = versions if recount else []
        runs = {change.revision: change for change in changes}
        for place, weights in enumerate(recounted):
            run = runs.get(weights.revision)
            if run is not None:
                since_ms = began_at(run, changes)
                evidence, _ = await learning.evidence(
                    run, since_ms=since_ms, as_of_ms=weights.as_of_ms, watermark=weights.watermark
                )
                deviations += check_evidence(run, evidence, weights, versions[place - 1] if place else None)
        return _Report(len(versions), len(recounted), len(assigned), deviations)
    finally:
        await learning.close()


@experiment.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
def report(name: str, as_json: bool) -> None:
    """What NAME has shown so far: intervals hold at every look, and `judged` says whether users of all arms speak alike."""
    found, shadows = asyncio.run(_reported(name))
    if as_json:
        click.echo(msgspec.json.encode(msgspec.to_builtins(found) | {"shadows": shadows}).decode())
        return
    click.echo(f"{name}, revision {found.revision}, weights {found.version}; winner: {found.winner or 'none yet'}")
    columns = ("arm", "policy", "share", "units", "judged", "mean", "interval", "P(best)", "SNIPS", "AIPW", "out by")
    print_rows(columns, [_row(arm) for arm in found.arms])
    for mismatch in found.mismatches:
        alarm = "ALARM: do not trust it" if mismatch.is_alarm else "as drawn"
        click.echo(f"units {mismatch.stage}: {alarm} (log evidence {mismatch.log_evidence:.1f})")
    for row in shadows:
        click.echo(_beside(row))


def _row(arm: ArmReport) -> tuple[str, ...]:
    return (
        arm.arm,
        arm.policy,
        f"{arm.share:.1%}",
        str(arm.num_units),
        f"{arm.response_rate:.0%}",
        f"{arm.mean:.3f}" if arm.num_resolved else "-",
        f"{arm.lower:.3f} … {arm.upper:.3f}",
        f"{arm.probability_best:.3f}",
        _estimate(arm.snips),
        _estimate(arm.aipw),
        arm.out_by or "",
    )


def _beside(row: Mapping[str, Any]) -> str:
    """How a shadow has done so far beside what was served."""
    return (
        f"shadow {row['shadow_policy']} beside {row['policy']}: {row['requests']} requests, "
        f"{row['same']} of {row['compared']} answers the same, "
        f"{row['shadow_mean_tokens_out']:.0f} tokens for {row['mean_tokens_out']:.0f}, "
        f"{row['shadow_p50_ms']:.0f} ms for {row['p50_ms']:.0f}, {row['shadow_total_dollars'] or 0.0:.4f} dollars"
    )


def _estimate(estimate: Estimate | None) -> str:
    return "too few" if estimate is None else f"{estimate.value:.3f} ± {estimate.error:.3f}"


async def _reported(name: str) -> tuple[Report, list[dict[str, Any]]]:
    learning = Learning(postgres_dsn())
    try:
        changes = await learning.changes(name)
        if not changes:
            raise click.ClickException(f"no experiment {name!r} was ever started, as far as is recorded")
        change = newest(changes)[name]
        evidence, _ = await learning.evidence(change, since_ms=began_at(change, changes), as_of_ms=_now_ms())
        shadows = await learning.shadows(name)
        return report_of(change, evidence, await learning.versions(name)), shadows
    finally:
        await learning.close()


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
    async with Client(brokers()) as client:
        event = change(newest(await client.whole(Topic.EXPERIMENTS)))
        await client.publish(event)
        return event


async def _known() -> dict[str, ExperimentChanged]:
    async with Client(brokers()) as client:
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
