"""`python -m benchmarks.against_commit COMMIT`: this checkout against an earlier commit, A B A B: throughput, overhead, start.

Each runs its own `benchmarks.pipeline` with its own services from a work tree of its own; both use the packages of this
checkout. The start is `conclave up` with the scripted engine, from nothing to every service ready.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from benchmarks.measuring import medians, record

_CHECKOUT = Path(__file__).resolve().parents[1]
_LIMIT_S = 900.0
_FIGURES = ("stored paths/s", "overhead p50, ms", "overhead p99, ms", "start, s")


@contextmanager
def _work_tree(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), commit], check=True, cwd=_CHECKOUT)
        (tree / ".conclave").mkdir()
        (tree / ".conclave" / "jars").symlink_to(_CHECKOUT / ".conclave" / "jars")
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], check=True, cwd=_CHECKOUT)


def _run(tree: Path, *arguments: str) -> None:
    # Compiled modules are kept, as they are where people run it: else whoever has more code starts slower each time.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=tree,
        env={**kept, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_S,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} in {tree} ended with {done.returncode}: {done.stderr[-2000:]}")


def _result(tree: Path, name: str) -> dict[str, float]:
    found: dict[str, float] = json.loads((tree / "benchmarks" / "results" / f"{name}.json").read_text())
    return found


def _measure(tree: Path, num_requests: int) -> list[float]:
    """The figures of one round, in the order of _FIGURES."""
    _run(tree, "benchmarks.pipeline", "--only", "a", "--rounds", "1", "--requests", str(num_requests))
    document = _result(tree, "throughput")
    rates = dict(document["medians_per_s"])  # type: ignore[call-overload]
    _run(tree, "benchmarks.pipeline", "--only", "b")
    overhead = _result(tree, "overhead")
    began = time.perf_counter()
    try:
        _run(tree, "conclave.cli", "up", "--engine", "scripted")
        start_s = time.perf_counter() - began
    finally:
        _run(tree, "conclave.cli", "down")
    return [rates["stored paths/s, whole pipeline"], overhead["p50_ms"], overhead["p99_ms"], start_s]


@click.command()
@click.argument("before")
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--requests", "num_requests", default=2500, show_default=True, help="Of 8 samples each, for the throughput."
)
def main(before: str, rounds: int, num_requests: int) -> None:
    """Measure HEAD and the commit BEFORE in turns; results go to benchmarks/results/."""
    figures: dict[str, dict[str, list[float]]] = {each: {"before": [], "now": []} for each in _FIGURES}
    with _work_tree(before) as old, _work_tree("HEAD") as new:
        for number in range(rounds):
            for name, tree in (("before", old), ("now", new)):
                for figure, value in zip(_FIGURES, _measure(tree, num_requests), strict=True):
                    figures[figure][name].append(value)
                    print(f"  round {number + 1}  {name:<7} {figure:<18} {value:10.1f}", flush=True)
    ratios = {figure: medians(each)["now"] / medians(each)["before"] for figure, each in figures.items()}
    print(json.dumps(ratios, indent=2))
    print(record("against_commit", {"before": before, "now_over_before": ratios, "all": figures}))


if __name__ == "__main__":
    main()
