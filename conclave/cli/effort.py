"""`conclave effort`: learns how much questions need to be thought about."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import click
import msgspec

from conclave.cli.amounts import DAYS, positive
from conclave.cli.endpoints import postgres_dsn
from conclave.cli.examples import read_examples
from conclave.domain.complexity import estimate
from conclave.domain.complexity.fitting import NotFitted, fitted
from conclave.domain.complexity.needs import Needs, decoded
from conclave.domain.complexity.outcomes import Example, Kind, examples


@click.group()
def effort() -> None:
    """How much is thought about a question: the estimator `learned` of a policy's `effort`."""


@effort.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--of",
    "kind",
    type=click.Choice(["samples", "rounds"]),
    default="samples",
    show_default=True,
    help="What is needed.",
)
@click.option("--days", type=positive(DAYS), default=30.0, show_default=True, help="Of the record.")
@click.option("--limit", type=click.IntRange(min=1), default=20_000, show_default=True, help="Outcomes at most.")
@click.option(
    "--examples",
    "given",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='Learn from this file instead of the record: a line {"question": …, "needed": 1 or more} each, with weight, source.',
)
def fit(file: Path, kind: str, days: float, limit: int, given: Path | None) -> None:
    """Fit what questions need to stored outcomes, and write it to FILE, with the figures that it reached on questions left out.

    Of a vote that is the fewest samples that would have decided, of contemplation the first round whose answer stayed; where
    feedback says that the answer was wrong, one more than there were. What is no better than one number for all is refused.
    CONCLAVE_EFFORT_FILE names FILE for the decomposer.
    """
    about = given.name if given else f"{kind}, by the record of {days:g} days"
    found = read_examples(given, Example) if given else _recorded(cast(Kind, kind), days, limit)
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    try:
        needs = fitted(found, fitted_at=now, about=about)
    except NotFitted as error:
        raise click.ClickException(f"nothing was written: {error}") from None
    content = msgspec.json.format(msgspec.json.encode(needs), indent=2) + b"\n"
    partial = file.with_name(file.name + ".partial")
    partial.write_bytes(content)
    partial.replace(file)  # whoever follows the file sees the old one or the new one, and no half
    click.echo(_told(decoded(content)))


@effort.command()
@click.argument("question")
@click.option(
    "--file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="That `conclave effort fit` has written.",
)
def explain(question: str, file: Path | None) -> None:
    """Say how many points each estimator gives QUESTION."""
    from conclave.domain.complexity import ESTIMATORS

    try:
        needs = decoded(file.read_bytes()) if file else None
    except ValueError as error:
        raise click.ClickException(f"{file}: {error}") from None
    for name in ESTIMATORS:
        points, by = estimate(name, question, needs)
        click.echo(f"{name:8}  {points:6.2f}  {'' if by == name else by}".rstrip())


def _recorded(kind: Kind, days: float, limit: int) -> list[Example]:
    from conclave.store.observations import outcomes

    since = datetime.now(UTC) - timedelta(days=days)
    return list(examples(asyncio.run(outcomes(postgres_dsn(), kind, since=since, limit=limit)), kind))


def _told(needs: Needs) -> str:
    reached = needs.fit
    sources = ", ".join(f"{number} {source}" for source, number in sorted(reached.sources.items()))
    return (
        f"learned@{needs.digest}: {reached.num_examples} examples ({sources}) of {reached.num_questions} questions, "
        f"{reached.mean_needed:.2f} needed on average\n"
        f"on questions left out: deviance {reached.deviance:.3f} (the average alone: {reached.deviance_of_mean:.3f}), "
        f"better by {reached.gain_at_least:.3f} at least"
    )
