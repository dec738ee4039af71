"""Tables in files that somebody else wrote: bounded in size and depth, so that whoever reads them fails at none."""

import re
import tomllib
from pathlib import Path
from typing import Any

_MAX_FILE_BYTES = 1_000_000
_MAX_DEPTH = 32
# The parser takes time quadratic in the depth of a key: 6 s for ten thousand.
_DEEP_KEY = re.compile(rf"(?<![\w\"'-])(?:[\w\"'-]+[ \t]*\.[ \t]*){{{_MAX_DEPTH + 1}}}")


def toml_files(folder: Path) -> list[Path]:
    """The files of a folder by name, `*.toml`. Raises: OSError where it can't be read: that is no folder without any."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".toml")


def table_in(path: Path) -> dict[str, Any]:
    """The table in a file. Raises: OSError, ValueError for what is none."""
    return parsed(text_of(path))


def text_of(path: Path) -> str:
    """What stands in a file, after the mark of its byte order. Raises: OSError, ValueError for what is too long or no UTF-8."""
    if path.exists() and not path.is_file():
        raise OSError("no regular file")  # a pipe would be waited for
    with path.open("rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"more than {_MAX_FILE_BYTES} bytes")
    return content.decode("utf-8-sig")


def parsed(text: str) -> dict[str, Any]:
    """The table that a text is. Raises: ValueError for what is none, or is nested deeper than anyone needs."""
    if _DEEP_KEY.search(text):
        raise _too_deep()
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise _too_deep() from None
    level: list[Any] = [table]
    for _ in range(_MAX_DEPTH):
        inner = [each for held in level for each in (held.values() if isinstance(held, dict) else held)]
        level = [each for each in inner if isinstance(each, dict | list)]
        if not level:
            return table
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"nested more than {_MAX_DEPTH} deep")
