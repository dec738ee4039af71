"""`conclave dead-letters`: what no service could handle."""

import asyncio
import json

import click

from conclave.cli.endpoints import brokers
from conclave.cli.output import print_rows, printable
from conclave.domain.printable import readable
from conclave.errors import Rejected
from conclave.runtime.client import Client
from conclave.runtime.dead_letters import DeadLetter
from schemas import flow

_ALL = 100_000
_SHOWN_ERROR_CHARS = 160

# Broadcast topics have no dead letters: each replica skips what it can't read.
_TOPICS = click.Choice([row.topic.value for row in flow.TOPICS if not row.is_broadcast])


@click.group("dead-letters")
def dead_letters() -> None:
    """What no service could handle: list it, look at it, give it another try."""


@dead_letters.command("list")
@click.option("--topic", type=_TOPICS, help="Of one source topic.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="The latest so many.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def list_letters(topic: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, the latest last."""
    letters = asyncio.run(_letters(topic, limit))
    if as_json:
        for letter in letters:
            click.echo(json.dumps(_summary(letter)))
        return
    rows = [(each.id, each.reason, each.field, each.error[:_SHOWN_ERROR_CHARS]) for each in letters]
    print_rows(("id", "reason", "field", "error"), rows)


@dead_letters.command()
@click.argument("letter_id", metavar="ID")
@click.option("--value", "is_value_only", is_flag=True, help="The value alone, byte for byte.")
def show(letter_id: str, is_value_only: bool) -> None:
    """Show one dead letter, named by the ID that `list` prints: headers, key, then the value.

    Control characters are spelled out; --value gives the bytes as they were received.
    """
    letter = asyncio.run(_letter(letter_id))
    if is_value_only:
        click.echo(letter.value or b"", nl=False)
        return
    for name, value in letter.headers:
        click.echo(f"{printable(name)}: {readable(value)}")
    click.echo(f"key: {readable(letter.key)}")
    click.echo()
    click.echo(readable(letter.value))


@dead_letters.command()
@click.argument("letter_id", metavar="ID", required=False)
@click.option("--all", "is_all", is_flag=True, help="All of --topic, or of every topic.")
@click.option("--topic", type=_TOPICS, help="With --all.")
def replay(letter_id: str | None, is_all: bool, topic: str | None) -> None:
    """Publish a dead letter (or all) to its source topic again, as it was received.

    The dead letter stays where it is. A fresh header marks each replay, so that it is not taken for a duplicate.
    """
    if (letter_id is None) is not is_all or (topic is not None and not is_all):
        raise click.UsageError("name one ID, or --all (of one --topic)")
    click.echo(f"replayed {asyncio.run(_replay(letter_id, topic))}")


async def _replay(letter_id: str | None, topic: str | None) -> int:
    letters = [await _letter(letter_id)] if letter_id is not None else await _letters(topic, _ALL)
    if letter_id is None and (refused := [letter.id for letter in letters if letter.is_of_record_alone]):
        click.echo(f"{len(refused)} were refused by the record alone: {', '.join(refused[:10])}", err=True)
        letters = [letter for letter in letters if not letter.is_of_record_alone]
    if letter_id is None and (partial := [letter.id for letter in letters if letter.left_out]):
        click.echo(f"{len(partial)} lack a part of their record: {', '.join(partial[:10])}", err=True)
        letters = [letter for letter in letters if not letter.left_out]
    async with Client(brokers()) as client:
        for letter in letters:
            await client.replay(letter)
    return len(letters)


async def _letters(topic: str | None, limit: int) -> list[DeadLetter]:
    async with Client(brokers()) as client:
        return await client.dead_letters(flow.Topic(topic) if topic else None, limit)


async def _letter(letter_id: str) -> DeadLetter:
    async with Client(brokers()) as client:
        try:
            found = await client.dead_letter(letter_id)
        except Rejected as error:
            raise click.UsageError(f"ID: expected {error.expected}, got {letter_id!r}") from None
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
