"""Looks at this process's memory from within: a thread that writes what its allocators say, a line every few seconds.

A service imports this where `CONCLAVE_EXTENSIONS` names it, and writes into the folder that `BENCHMARK_MEMORY_FOLDER` names:
`benchmarks.load --inside` does both.
"""

import ctypes
import gc
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from benchmarks.memory.mappings import resident_of

FOLDER = "BENCHMARK_MEMORY_FOLDER"
EVERY_S = 10.0
_MIB = 2.0**20
_TYPES_EVERY = 6  # looks: to count objects by type takes a while

# Of what CPython says of its own allocator: the name here, and how its line begins there.
_PYMALLOC = {
    "pymalloc in use": "# bytes in allocated blocks",
    "pymalloc free in pools": "# bytes in available blocks",
}
_ARENAS = re.compile(r"^(?P<num>[\d,]+) arenas \* (?P<bytes>[\d,]+) bytes/arena", re.MULTILINE)


_LIBRARY = ctypes.CDLL(None)  # once: each one brings types of its own, which stay until garbage is collected


class _MallInfo(ctypes.Structure):
    """struct mallinfo2 of malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def look() -> dict[str, float]:
    """MiB by what holds them, and what is counted in numbers: objects, blocks, threads."""
    return {**resident_of(os.getpid()), **_of_malloc(), **_of_pymalloc(), **_of_python()}


def num_by_type() -> dict[str, int]:
    """How many objects the garbage collector knows, of the types that have the most."""
    return dict(Counter(type(each).__name__ for each in gc.get_objects()).most_common(40))


def _of_malloc() -> dict[str, float]:
    """glibc's: of all its arenas together. Empty where the C library is another one."""
    if not hasattr(_LIBRARY, "mallinfo2"):
        return {}
    _LIBRARY.mallinfo2.restype = _MallInfo
    told = _LIBRARY.mallinfo2()
    return {
        "malloc in use": told.uordblks / _MIB,
        "malloc free": told.fordblks / _MIB,
        "malloc mapped": told.hblkhd / _MIB,
        "free pieces": float(told.ordblks),
    }


def _of_pymalloc() -> dict[str, float]:
    text = _debugmallocstats()
    found = {name: _number(text, begins) / _MIB for name, begins in _PYMALLOC.items()}
    arenas = _ARENAS.search(text)
    if arenas is not None:
        num, size = (int(arenas[each].replace(",", "")) for each in ("num", "bytes"))
        found["pymalloc arenas"] = num * size / _MIB
    return found


def _of_python() -> dict[str, float]:
    return {
        "objects": float(len(gc.get_objects())),
        "blocks": float(sys.getallocatedblocks()),
        "threads": float(threading.active_count()),
        "full collections": float(gc.get_stats()[2]["collections"]),
    }


def _debugmallocstats() -> str:
    """What CPython writes to the file behind its standard error, and nowhere else. What others write there meanwhile is lost."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            sys._debugmallocstats()
            _LIBRARY.fflush(None)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        return file.read().decode()


def _number(text: str, begins: str) -> int:
    line = next((each for each in text.splitlines() if each.startswith(begins)), "= 0")
    return int(line.rpartition("=")[2].replace(",", ""))


def _follow(path: Path) -> None:
    num_looks = 0
    with path.open("a") as file:
        while True:
            said: dict[str, object] = {"at": time.time(), "figures": look()}
            if num_looks % _TYPES_EVERY == 0:
                said["types"] = num_by_type()
            file.write(json.dumps(said) + "\n")
            file.flush()
            num_looks += 1
            time.sleep(EVERY_S)


def follow(folder: Path, name: str) -> None:
    """Has a thread of this process look, until it ends."""
    path = folder / f"{name}.jsonl"
    threading.Thread(target=_follow, args=(path,), name="memory", daemon=True).start()


if FOLDER in os.environ:
    follow(Path(os.environ[FOLDER]), os.environ.get("CONCLAVE_INSTANCE_ID", str(os.getpid())))
