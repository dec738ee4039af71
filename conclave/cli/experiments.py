"""`conclave experiment`: what there is and runs, and to start, stop, kill or promote it, with who and why."""

import asyncio
import getpass
import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from conclave.cli.endpoints import brokers, postgres_dsn
from conclave.cli.experiment_receipts import NEVER, export, verify
from conclave.cli.output import print_rows
from conclave.cli.policies import load_policies
from conclave.domain.experiments.history import history as history_of
from conclave.domain.experiments.reporting import ArmReport, Report, phase_of
from conclave.domain.experiments.reporting import report as report_of
from conclave.domain.experiments.shares import first_allocation
from conclave.domain.experiments.unseen import Standing
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
@click.option("--running", is_flag=True, help="As it runs: its phase, its shares, and all that was done to it.")
def show(name: str, running: bool) -> None:
    """Show an experiment as it would start: every default filled in, its policies' digests, and its own."""
    if running:
        click.echo(msgspec.json.format(msgspec.json.encode(asyncio.run(_running(name))), indent=2).decode())
        return
    found, policies = _files(None)
    if name not in found.rows:
        raise click.ClickException(f"no experiment {name!r}; there are: {', '.join(found.rows)}")
    definition = pinned(found.rows[name].experiment, policies)
    click.echo(msgspec.json.format(msgspec.json.encode(definition), indent=2).decode())


async def _running(name: str) -> dict[str, object]:
    """What the record has of an experiment that was started."""
    learning = Learning(postgres_dsn())
    try:
        changes, versions = await learning.changes(name), await learning.versions(name)
    finally:
        await learning.close()
    if not changes:
        raise click.ClickException(NEVER.format(name))
    change = newest(changes)[name]
    last = next((each for each in reversed(versions) if each.revision == change.revision), None)
    done = history_of(changes, versions)
    return {
        "state": _STATES[change.change],
        "revision": change.revision,
        "phase": phase_of(change, last),
        "weights_version": last.version if last else 0,
        "allocation": last.allocation if last else first_allocation(change.definition),
        "segments": {segment: each.allocation for segment, each in last.segments.items()} if last else {},
        "out": last.out if last else {},
        "history": [{**msgspec.to_builtins(each), "at": _moment(each.at_ms)} for each in done],
        "definition": change.definition,
    }


def _moment(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")


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


experiment.add_command(verify)
experiment.add_command(export)


@experiment.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
def report(name: str, as_json: bool) -> None:
    """What NAME has shown so far: intervals hold at every look, and `judged` says whether users of all arms speak alike."""
    found, shadows = asyncio.run(_reported(name))
    if as_json:
        click.echo(msgspec.json.encode(msgspec.to_builtins(found) | {"shadows": shadows}).decode())
        return
    phase = f", {found.phase}" if found.phase else ""
    click.echo(
        f"{name}, revision {found.revision}{phase}, weights {found.version}; winner: {found.winner or 'none yet'}"
    )
    columns = ("arm", "policy", "share", "units", "judged", "mean", "interval", "P(best)", "SNIPS", "AIPW", "out by")
    print_rows(columns, [_row(arm) for arm in found.arms])
    if found.segments:
        _tell_segments(found)
    for mismatch in found.mismatches:
        alarm = "ALARM: do not trust it" if mismatch.is_alarm else "as drawn"
        click.echo(f"units {mismatch.stage}: {alarm} (log evidence {mismatch.log_evidence:.1f})")
    for row in shadows:
        click.echo(_beside(row))
    for check in found.checks:
        click.echo(f"check: {check}: {_standing(check)}")


def _tell_segments(found: Report) -> None:
    """The arms of each segment, by its own units; what is borrowed moves shares only."""
    click.echo(f"by {found.experiment.segment_by}; correlation {found.segment_correlation:.3f}:")
    columns = ("segment", "arm", "share", "units", "mean", "interval", "P(best)", "borrowed", "winner")
    rows = [
        (
            each.segment or "(the rest)",
            arm.arm,
            f"{arm.share:.1%}",
            str(arm.num_units),
            f"{arm.mean:.3f}" if arm.num_resolved else "-",
            f"{arm.lower:.3f} … {arm.upper:.3f}",
            f"{arm.probability_best:.3f}",
            f"{arm.borrowed:.1f}",
            "winner" if arm.arm == each.winner else "",
        )
        for each in found.segments
        for arm in each.arms
    ]
    print_rows(columns, rows)


def _standing(check: Standing) -> str:
    """How a check of a shadow stands, and by what evidence."""
    if check.holds or check.is_broken:
        return "known to hold" if check.holds else "known to be broken"
    return (
        f"not known yet (log evidence {check.evidence_for:.1f} that it holds, {check.evidence_against:.1f} that it does not, "
        f"of {check.wanted:.1f})"
    )


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
            raise click.ClickException(NEVER.format(name))
        change, versions = newest(changes)[name], await learning.versions(name)
        last = versions[-1] if versions else None
        evidence, _ = await learning.evidence(
            change, since_ms=began_at(change, changes), as_of_ms=_now_ms(), after=last
        )
        return report_of(change, evidence, versions), await learning.shadows(name)
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
