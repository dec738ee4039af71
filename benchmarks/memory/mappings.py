"""What a process's resident memory is made of, by mapping, as the kernel says."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEAP_BYTES = 64 * 2**20  # glibc's heaps of arenas beyond the main one begin at multiples of this
_KIB_A_MIB = 1024
_HEADER = re.compile(r"^(?P<first>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<rights>\S+) \S+ \S+ (?P<inode>\d+) *(?P<name>.*)$")
_STACK_BYTES = 8 * 2**20  # of a thread, as glibc maps it: behind a guard page

BRK = "brk heap"  # malloc's main arena
ARENAS = "arenas of threads"  # malloc's others
STACKS = "stacks"
ANONYMOUS = "other anonymous"  # pymalloc's arenas, and what malloc maps by itself
FILES = "files"


@dataclass(frozen=True, slots=True)
class _Mapping:
    first: int
    end: int
    is_open: bool  # may be read or written: else a guard, or room that is kept free
    name: str
    is_file: bool
    resident_kib: int


def resident_mib(smaps: str) -> dict[str, float]:
    """MiB that are resident, by what they are for, of the text of /proc/<pid>/smaps."""
    found: dict[str, float] = dict.fromkeys((BRK, ARENAS, STACKS, ANONYMOUS, FILES), 0.0)
    mappings = list(_mappings(smaps))
    for before, each in zip([None, *mappings], mappings, strict=False):
        found[_kind(before, each)] += each.resident_kib / _KIB_A_MIB
    return found


def resident_of(pid: int) -> dict[str, float]:
    """The same of a living process of ours. Raises: OSError."""
    return resident_mib(Path(f"/proc/{pid}/smaps").read_text())


def _kind(before: _Mapping | None, each: _Mapping) -> str:
    if each.name == "[heap]":
        return BRK
    if each.name.startswith("[stack"):
        return STACKS
    if each.is_file or each.name.startswith("["):
        return FILES
    if each.first % _HEAP_BYTES == 0 and each.is_open:
        return ARENAS
    is_guarded = before is not None and before.end == each.first and not before.is_open
    return STACKS if is_guarded and each.end - each.first == _STACK_BYTES else ANONYMOUS


def _mappings(smaps: str) -> Iterator[_Mapping]:
    told: dict[str, str] = {}
    fields: dict[str, int] = defaultdict(int)
    for line in smaps.splitlines():
        header = _HEADER.match(line)
        if header is None:
            name, _, rest = line.partition(":")
            if name == "Rss":
                fields[name] = int(rest.split()[0])
            continue
        if told:
            yield _mapping(told, fields)
        told, fields = header.groupdict(), defaultdict(int)
    if told:
        yield _mapping(told, fields)


def _mapping(told: dict[str, str], fields: dict[str, int]) -> _Mapping:
    return _Mapping(
        int(told["first"], 16),
        int(told["end"], 16),
        "r" in told["rights"] or "w" in told["rights"],
        told["name"].strip(),
        told["inode"] != "0",
        fields["Rss"],
    )
