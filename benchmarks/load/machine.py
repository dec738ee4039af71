"""What processes take, as the kernel says: memory, CPU seconds, and joules where the machine counts them."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
_RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and all that it has started have taken so far, and hold now."""

    memory_mib: float
    cpu_s: float


def usage(leaders: Mapping[str, int]) -> dict[str, Usage]:
    """By name, what a process takes with all its living descendants; `leaders` are their pids.

    Memory is resident, so pages that processes share count for each.
    """
    stats = dict(_stats())
    names = {pid: name for name, pid in leaders.items()}
    found: dict[str, Usage] = {}
    for pid, fields in stats.items():
        name = _led_by(pid, stats, names)
        if name is not None:
            before = found.get(name, Usage(0.0, 0.0))
            cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
            found[name] = Usage(before.memory_mib + int(fields[21]) * _PAGE_MIB, before.cpu_s + cpu_s)
    return found


def _led_by(pid: int, stats: Mapping[int, list[str]], names: Mapping[int, str]) -> str | None:
    """The nearest of those named that a process is, or descends from."""
    while pid in stats:
        if pid in names:
            return names[pid]
        pid = int(stats[pid][1])  # its parent: a session would not do, as PostgreSQL's children have their own
    return None


def joules() -> float | None:
    """Joules that the processor packages have taken since some moment, by RAPL; None where the machine does not tell."""
    try:
        counters = [int(path.read_text()) for path in sorted(_RAPL.glob("intel-rapl:?/energy_uj"))]
    except (OSError, ValueError):
        return None
    return sum(counters) / 1e6 if counters else None


def _stats() -> Iterable[tuple[int, list[str]]]:
    """The fields of /proc/<pid>/stat after the name, of every process that lives, by its pid."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
