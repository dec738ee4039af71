"""`conclave export`: the record as Parquet files, and right paths against wrong ones as a set to fine-tune on."""

import asyncio
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import click

from conclave import prompts
from conclave.cli.endpoints import postgres_dsn
from conclave.cli.since import since as since_of
from conclave.domain.preferences import preferred
from conclave.domain.redaction import DEFAULT_MASKS, MASKS, Mask, masker
from conclave.masking.settings import PresidioSettings
from conclave.prompts import PromptSet, UnknownPrompt
from conclave.runtime.settings import load
from conclave.store.exporting import VIEWS, ToldVote, exports
from conclave.tools import TOOLS

_PROMPTS = "CONCLAVE_PROMPTS_DIR"


@click.command()
@click.option(
    "--parquet", "folder", type=click.Path(file_okay=False, path_type=Path), help="A folder for a file a view."
)
@click.option(
    "--view", "views", multiple=True, type=click.Choice(VIEWS), help="With --parquet: only these.  [default: all]"
)
@click.option(
    "--preferences", "pairs_path", type=click.Path(dir_okay=False, path_type=Path), help="A file for preferred paths."
)
@click.option("--pairs", default=1, show_default=True, type=click.IntRange(1, 64), help="Of a question, at most.")
@click.option(
    "--since", callback=since_of, metavar="TIME", help="Requests asked since: 7d, 2026-11-01.  [default: 30d]"
)
@click.option(
    "--mask",
    "masks",
    multiple=True,
    type=click.Choice(list(MASKS)),
    help=f"What is masked.  [default: {', '.join(DEFAULT_MASKS)}]",
)
def export(
    folder: Path | None,
    views: tuple[str, ...],
    pairs_path: Path | None,
    pairs: int,
    since: datetime | None,
    masks: tuple[str, ...],
) -> None:
    """Write the record to files: all that analysts see of requests (--parquet), or pairs of paths to fine-tune on (--preferences).

    What looks like a secret is masked in every text, and requests that were erased are not there.
    """
    if folder is None and pairs_path is None:
        raise click.UsageError("give --parquet FOLDER, --preferences FILE, or both")
    since = since or datetime.now(UTC) - timedelta(days=30)
    mask = load(PresidioSettings).after(masker(masks or DEFAULT_MASKS))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(_write_views(folder, views or VIEWS, since, mask))
    if pairs_path is not None:
        asyncio.run(_write_pairs(pairs_path, pairs, since, mask))


async def _write_views(folder: Path, views: Iterable[str], since: datetime, mask: Mask) -> None:
    try:
        from conclave.cli.parquet import ParquetFile
    except ModuleNotFoundError:
        raise click.ClickException("Parquet needs the package pyarrow: pip install 'conclave[parquet]'") from None
    async with exports(postgres_dsn()) as record:
        for view in views:
            path, num_rows = folder / f"{view}.parquet", 0
            with ParquetFile(path, await record.columns(view)) as file:
                async for rows in record.rows(view, since):
                    file.write([_masked(row, mask) for row in rows])
                    num_rows += len(rows)
            click.echo(f"{path}: {num_rows} rows")


def _masked(value: Any, mask: Mask) -> Any:
    """A value whose every text is masked, however deep it lies. Names of fields are the system's own."""
    match value:
        case str():
            return mask(value)
        case dict():
            return {name: _masked(each, mask) for name, each in value.items()}
        case list() | tuple():
            return [_masked(each, mask) for each in value]
        case _:
            return value


async def _write_pairs(path: Path, most: int, since: datetime, mask: Mask) -> None:
    folder = os.environ.get(_PROMPTS)
    sets = prompts.available(Path(folder) if folder else None, tools=TOOLS)
    async with exports(postgres_dsn()) as record:
        votes = await record.told_votes(since)
    with path.open("w", encoding="utf-8") as file:
        num_lines, num_votes = _write_lines(file, votes, sets, most, mask)
    click.echo(f"{path}: {num_lines} pairs of {num_votes} questions, out of {len(votes)} that were judged")


def _write_lines(
    file: IO[str], votes: Iterable[ToldVote], sets: Mapping[str, PromptSet], most: int, mask: Mask
) -> tuple[int, int]:
    """How many pairs, of how many votes, were written."""
    num_lines = num_votes = 0
    for vote in votes:
        lines = list(preferences(vote, sets, most))
        for line in lines:
            file.write(json.dumps(_masked(line, mask), ensure_ascii=False) + "\n")
        num_lines, num_votes = num_lines + len(lines), num_votes + bool(lines)
    return num_lines, num_votes


def preferences(vote: ToldVote, sets: Mapping[str, PromptSet], most: int) -> Iterator[dict[str, Any]]:
    """A question's pairs as trainers take them: a conversation, and the two ways in which it may go on.

    `prompt`, `chosen` and `rejected` are lists of messages. What the form has the model begin with is part of what it says. Nothing
    where the form is not known here any more.
    """
    try:
        form = prompts.load(vote.policy.prompt_set, sets).form(vote.policy.asks[vote.ask].form)
        messages = list(form.render(vote.fields).messages)
    except (UnknownPrompt, KeyError):
        return
    begun = messages.pop().content if messages[-1].role == "assistant" else ""
    for chosen, rejected in preferred(vote.vote, vote.texts, most=most):
        yield {
            "prompt": [{"role": message.role, "content": message.content} for message in messages],
            "chosen": [{"role": "assistant", "content": begun + vote.texts[chosen]}],
            "rejected": [{"role": "assistant", "content": begun + vote.texts[rejected]}],
            "request_id": vote.vote.request_id,
        }
