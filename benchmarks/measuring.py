"""What every benchmark here records: the commit, the hardware, and medians of runs taken in turns."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

_RESULTS = Path(__file__).parent / "results"


async def in_turns(runs: Mapping[str, Callable[[], Awaitable[float]]], *, rounds: int) -> dict[str, list[float]]:
    """The figures of each run, taken A B A B …, so that what else the machine does falls on all alike."""
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name, run in runs.items():
            figures[name].append(await run())
            print(f"  round {number + 1}  {name:<32} {figures[name][-1]:10.1f}", flush=True)
    return figures


def medians(figures: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each."""
    return {name: statistics.median(each) for name, each in figures.items()}


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def record(name: str, result: Mapping[str, object]) -> Path:
    """Writes a result with commit and hardware to benchmarks/results/, and returns where."""
    cpu = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    hardware = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }
    _RESULTS.mkdir(exist_ok=True)
    path = _RESULTS / f"{name}.json"
    document = {
        "commit": commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware,
        **result,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def commit() -> str:
    """The commit that was measured, with `-dirty` where anything but the results differs from it."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":/!benchmarks/results")
    return _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
