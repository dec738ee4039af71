"""`conclave documents`: what paths may look up by the tool `documents`."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from conclave.cli.endpoints import postgres_dsn
from conclave.cli.output import print_rows
from conclave.store.documents import Documents

T = TypeVar("T")


@click.group()
def documents() -> None:
    """Documents that paths may look up, kept in full text in the record's database: add, list, remove."""


@documents.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--name", help="The document's name.  [default: the file's]")
@click.option("--language", default="english", show_default=True, help="A text search configuration of PostgreSQL's.")
def add(files: tuple[Path, ...], name: str | None, language: str) -> None:
    """Add FILES of text, each in place of any document of its name; - is standard input, and wants --name."""
    if name is not None and len(files) > 1:
        raise click.UsageError("--name is for one file")
    for file in files:
        called = name or (None if str(file) == "-" else file.name)
        if called is None:
            raise click.UsageError("standard input wants --name")
        content = _content(file)
        number = _run(partial(Documents.put, name=called, content=content, language=language))
        click.echo(f"{called}: {number} passages")


@documents.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def list_all(as_json: bool) -> None:
    """List the documents."""
    rows = _run(lambda kept: kept.listed())
    columns = ("name", "passages", "characters")
    if as_json:
        click.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows]))
    else:
        print_rows(columns, [tuple(map(str, row)) for row in rows])


@documents.command()
@click.argument("name")
def remove(name: str) -> int:
    """Remove the document NAME. Exit status 1 when there is none."""
    if _run(lambda kept: kept.remove(name)):
        return 0
    raise click.ClickException(f"no document {name!r}")


@documents.command()
@click.argument("words")
def find(words: str) -> None:
    """Show what a path would be told for WORDS."""
    click.echo(_run(lambda kept: kept.look_up(words)))


def _content(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file}: expected a readable text in UTF-8: {error}") from None


def _run(done: Callable[[Documents], Awaitable[T]]) -> T:
    async def run() -> T:
        kept = Documents(postgres_dsn())
        try:
            return await done(kept)
        finally:
            await kept.close()

    return asyncio.run(run())
