"""`conclave router`: trains what a router goes by."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec

from conclave.cli.amounts import DAYS, positive
from conclave.cli.endpoints import postgres_dsn
from conclave.cli.examples import read_examples
from conclave.domain.routing.difficulty import Classifier
from conclave.domain.routing.examples import Example, Observation, examples
from conclave.domain.routing.learning import TooFew, learned


@click.group()
def router() -> None:
    """What a router goes by: see `conclave routes` for the routers themselves."""


@router.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--days", type=positive(DAYS), default=30.0, show_default=True, help="Of the record.")
@click.option("--form", default="direct", show_default=True, help="The prompt form of a direct answer.")
@click.option("--limit", type=click.IntRange(min=1), default=100_000, show_default=True, help="Observations at most.")
@click.option(
    "--examples",
    "given",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='Learn from this file instead of the record: a line {"question": …, "wrong": 0 to 1} each, with weight, source.',
)
def train(file: Path, days: float, form: str, limit: int, given: Path | None) -> None:
    """Train a classifier of difficulty and write it to FILE, with the figures that it reached on questions left out.

    It learns from the record: what feedback says of direct answers, whether a longer thought came to the same, how sure they
    were, and how far votes disagreed. A router beside FILE names it as its `classifier`.
    """
    about = f"{given.name}" if given else f"the record of {days:g} days, direct form {form}"
    found = read_examples(given, Example) if given else list(examples(_recorded(days, form, limit)))
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    try:
        classifier = learned(found, trained_at=now, about=about)
    except TooFew as error:
        raise click.ClickException(f"nothing was written: {error}") from None
    content = msgspec.json.format(msgspec.json.encode(classifier), indent=2)
    partial = file.with_name(file.name + ".partial")
    partial.write_bytes(content + b"\n")
    partial.replace(file)  # whoever follows the folder sees the old one or the new one, and no half
    click.echo(_told(classifier))


def _recorded(days: float, form: str, limit: int) -> list[Observation]:
    from conclave.store.observations import observations

    since = datetime.now(UTC) - timedelta(days=days)
    return asyncio.run(observations(postgres_dsn(), since=since, form=form, limit=limit))


def _told(classifier: Classifier) -> str:
    reached = classifier.figures
    sources = ", ".join(f"{number} {source}" for source, number in sorted(reached.sources.items()))
    return (
        f"{reached.num_examples} examples ({sources}), {reached.share_wrong:.1%} wrong\n"
        f"on questions left out: accuracy {reached.accuracy:.1%}, AUC {reached.auc:.3f}, "
        f"log loss {reached.log_loss:.3f} (the share alone: {reached.log_loss_of_share:.3f})"
    )
