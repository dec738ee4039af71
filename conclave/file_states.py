"""When files that a running service goes by have changed: what is looked at every few seconds."""

from collections.abc import Iterable
from pathlib import Path

LOOKED_AT_EVERY_S = 2.0

FileState = tuple[str, int, int]


def states_of(folders: Iterable[Path], *patterns: str) -> tuple[FileState, ...]:
    """Path, time of change and size of each file in the folders: what changes whenever one of them does."""
    found = []
    for folder in folders:
        for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
            try:
                stat = path.stat()
            except OSError:  # gone since it was listed
                continue
            found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(found)
