"""What every benchmark here records: the commit, the hardware, and medians of runs taken in turns.

Where only the files of a commit are, and no git, `MEASURED_COMMIT` says which commit they are of.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.cards import cards

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
    path = result_path(name)
    path.parent.mkdir(exist_ok=True)
    document = {
        "commit": commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": _hardware(),
        **result,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def result_path(name: str) -> Path:
    """Where the result of this name is, or will be."""
    return _RESULTS / f"{name}.json"


def commit() -> str:
    """The commit that was measured, with `-dirty` where anything but the results differs from it; empty where nothing tells."""
    if told := os.environ.get("MEASURED_COMMIT"):
        return told
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":/!benchmarks/results")
    return _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def cpu_name() -> str:
    """What the processor calls itself."""
    names = (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name"))
    return next(names, platform.processor())


def _hardware() -> dict[str, object]:
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),  # that this run may use; a machine may have more
        "load_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **_gpu(),
    }


def _gpu() -> dict[str, str]:
    """The names of the machine's NVIDIA cards; else of the GPU that this process uses by PyTorch."""
    if found := Counter(each.name for each in cards()):
        return {"gpu": ", ".join(name if number == 1 else f"{number} × {name}" for name, number in found.items())}
    torch: Any = sys.modules.get("torch")
    is_used = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    return {"gpu": torch.cuda.get_device_name()} if is_used else {}


def _git(*arguments: str) -> str:
    if shutil.which("git") is None:
        return ""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
