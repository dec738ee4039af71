"""The command `conclave report`."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from conclave.cli.endpoints import postgres_dsn
from conclave.cli.report.page import html
from conclave.cli.report.sections import Trials, sections
from conclave.cli.report.terminal import show
from conclave.cli.since import since as since_of
from conclave.domain.experiments.reporting import report as report_of
from conclave.domain.redaction import masker
from conclave.domain.statistics.agreement import Agreement, agreement
from conclave.experiments.changes import began_at, newest
from conclave.masking.settings import PresidioSettings
from conclave.runtime.settings import load
from conclave.store.learning import Learning
from conclave.store.reviews import Reviews
from conclave.store.summary import Summary, summary


@click.command()
@click.option(
    "--since", callback=since_of, metavar="TIME", help="Requests asked since: 12h, 7d, 2026-11-01.  [default: 7d]"
)
@click.option(
    "--html", "html_path", type=click.Path(dir_okay=False, path_type=Path), help="Write it as one HTML file instead."
)
def report(since: datetime | None, html_path: Path | None) -> None:
    """What was asked and answered, what it cost and was worth, how experiments stand and what should be looked at.

    Secrets in questions and answers are masked.
    """
    now = datetime.now(UTC)
    since = since or now - timedelta(days=7)
    found, trials, agreed = asyncio.run(_found(postgres_dsn(), since))
    told = sections(found, trials, agreed, load(PresidioSettings).after(masker()))
    if html_path is not None:
        html_path.write_text(html(told, since=since, now=now), encoding="utf-8")
        click.echo(f"{html_path}: {len(told)} sections")
    elif told:
        show(told)
    else:
        click.echo("nothing was asked")


async def _found(dsn: str, since: datetime) -> tuple[Summary, Trials, Agreement | None]:
    figures = await summary(dsn, since)
    reviews = Reviews(dsn)
    try:
        agreed = agreement(await reviews.judgements(since))
    finally:
        await reviews.close()
    return figures, await _trials(dsn), agreed


async def _trials(dsn: str) -> Trials:
    """How each experiment stands that was ever started, by name."""
    learning, now_ms = Learning(dsn), time.time_ns() // 1_000_000
    try:
        changes, found = await learning.changes(), []
        for name, change in sorted(newest(changes).items()):
            versions = await learning.versions(name)
            last = versions[-1] if versions else None
            evidence, _ = await learning.evidence(
                change, since_ms=began_at(change, changes), as_of_ms=now_ms, after=last
            )
            found.append((name, report_of(change, evidence, versions)))
        return found
    finally:
        await learning.close()
