"""Files of examples, a line of JSON each, for the commands that learn from what they are given."""

from pathlib import Path
from typing import TypeVar

import click
import msgspec

Example = TypeVar("Example")


def read_examples(file: Path, kind: type[Example]) -> list[Example]:
    """The examples in a file. Raises: ClickException, naming the line and what is wrong with it."""
    found = []
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            found.append(msgspec.json.decode(line, type=kind))
        except msgspec.MsgspecError as error:
            raise click.ClickException(f"{file}:{number}: {error}") from None
    return found
