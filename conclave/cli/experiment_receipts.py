"""`conclave experiment verify | export`: all of an experiment computed again, on the record or from a file of receipts."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import click

from conclave.cli.endpoints import postgres_dsn
from conclave.domain.experiments.evidence import Evidence
from conclave.domain.experiments.receipts import (
    AssignmentReceipt,
    ChangeReceipt,
    Receipt,
    WeightsReceipt,
    check_receipts,
    end_of,
    written,
)
from conclave.domain.experiments.verification import Deviation, check_assignments, check_evidence, check_weights
from conclave.experiments.changes import began_at
from conclave.store.learning import Learning
from schemas.events import ExperimentChanged, WeightsPublished

NEVER = "no experiment {!r} was ever started, as far as is recorded"


@click.command()
@click.argument("name", required=False)
@click.option(
    "--recount/--no-recount", default=True, show_default=True, help="Count the evidence of each version again."
)
@click.option(
    "--receipts",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of `experiment export`, in place of the record.",
)
def verify(name: str | None, recount: bool, path: Path | None) -> int:
    """Compute every assignment and every version of NAME's weights again. Exit status 1, and a line a deviation."""
    if (name is None) is (path is None):
        raise click.UsageError("give the NAME of an experiment, or --receipts FILE")
    told, deviations = _of_file(path) if path is not None else asyncio.run(_verified(name or "", recount=recount))
    for deviation in deviations:
        click.echo(str(deviation), err=True)
    click.echo(f"{name or path}: {told}{len(deviations)} deviations")
    return 1 if deviations else 0


@click.command()
@click.argument("name")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
def export(name: str, path: Path) -> None:
    """Write all of NAME to a file of receipts, that `verify --receipts` checks without the record.

    Each line holds the hash of the one before. Units are named as they are in the record, unless they were erased; no word of a
    question or an answer is there.
    """
    last, num_lines = asyncio.run(_exported(name, path))
    click.echo(f"{path}: {num_lines} receipts, the last with the hash {last}")


def _of_file(path: Path) -> tuple[str, list[Deviation]]:
    with path.open("rb") as file:
        end, deviations = check_receipts(file)
    if end is None:
        return "", deviations
    return (
        f"{end.num_weights} versions of the weights, {end.num_assignments} assignments, {end.num_verdicts} verdicts, ",
        deviations,
    )


async def _verified(name: str, *, recount: bool) -> tuple[str, list[Deviation]]:
    learning, num_recounted = Learning(postgres_dsn()), 0
    try:
        changes, versions = await learning.changes(name), await learning.versions(name)
        if not changes:
            raise click.ClickException(NEVER.format(name))
        assigned = await learning.assignments(name)
        deviations = [*check_weights(changes, versions), *check_assignments(changes, versions, assigned)]
        if recount:
            async for each in _recounted(learning, changes, versions):
                num_recounted += 1
                deviations += check_evidence(each.run, each.evidence, each.weights, each.previous)
    finally:
        await learning.close()
    told = f"{len(versions)} versions of the weights ({num_recounted} counted again), {len(assigned)} assignments, "
    return told, deviations


@dataclass(frozen=True, slots=True)
class _Recounted:
    """A version, the one before, and what is counted below its watermark now."""

    run: ExperimentChanged
    weights: WeightsPublished
    previous: WeightsPublished | None
    evidence: Evidence


async def _recounted(
    learning: Learning, changes: list[ExperimentChanged], versions: list[WeightsPublished]
) -> AsyncIterator[_Recounted]:
    """Each version of a run that is known, in the phase that it was counted in."""
    runs = {change.revision: change for change in changes}
    for place, weights in enumerate(versions):
        run, previous = runs.get(weights.revision), versions[place - 1] if place else None
        if run is not None:
            evidence, _ = await learning.evidence(
                run,
                since_ms=began_at(run, changes),
                as_of_ms=weights.as_of_ms,
                watermark=weights.watermark,
                after=previous,
            )
            yield _Recounted(run, weights, previous, evidence)


async def _exported(name: str, path: Path) -> tuple[str, int]:
    """The hash of the last line, and how many there are."""
    learning = Learning(postgres_dsn())
    try:
        changes, versions = await learning.changes(name), await learning.versions(name)
        if not changes:
            raise click.ClickException(NEVER.format(name))
        receipts: list[Receipt] = [ChangeReceipt(change) for change in changes]
        async for each in _recounted(learning, changes, versions):
            receipts.append(WeightsReceipt(each.weights, each.evidence.cells, each.evidence.spent_micro))
        receipts += [AssignmentReceipt(each) for each in await learning.assignments(name)]
        receipts += await learning.verdicts(name)
    finally:
        await learning.close()
    last = ""
    with path.open("wb") as file:
        for line in written([*receipts, end_of(receipts)]):
            file.write(line)
            last = line[:64].decode()
    return last, len(receipts) + 1
