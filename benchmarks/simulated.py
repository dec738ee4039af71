"""`python -m benchmarks.simulated`: schedules a minute on one core, how much of the runtime the simulated laws run through, and how
many planted faults they find.

Coverage is of lines and branches of what of `conclave/runtime/` stands on the broker's port: a process's settings, logs, health
server and start, and all that speaks to a real Kafka, have no place in a simulation. Random schedules are played, and one with
each fate of each request of each service. Faults are those of `tests/simulation/faults.py`, each planted alone until a schedule
breaks a law.
"""

import itertools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import click
import coverage

from benchmarks.measuring import record

_RUNTIME = Path(__file__).resolve().parents[1] / "conclave" / "runtime"
_OF_A_REAL_PROCESS = (
    "brokers",
    "client",
    "clock",
    "health",
    "kafka/*",
    "letter_log",
    "logs",
    "memory",
    "probing",
    "process",
    "rights",
    "settings",
    "topics",
)
_SEED = 2  # its requests reach every service but `tools`, which that of the other calls
_SEED_OF_CALLS = 100


def _fates() -> list[str]:
    """One schedule for each fate of each request of each service; what broke a law."""
    from conclave.testing.network import Fate, Plan, Request
    from conclave.testing.simulation import simulate

    services = ("decomposer", "decoder", "voter", "aggregator", "recorder")
    plans = [
        Plan(*each) for each in itertools.product([fate for fate in Fate if fate is not Fate.OK], Request, services)
    ]
    calls = [
        Plan(*each) for each in itertools.product([fate for fate in Fate if fate is not Fate.OK], Request, ["tools"])
    ]
    broken = [str(plan) for plan in plans if simulate(_SEED, num_moves=0, plans=[plan]).violations]
    return broken + [str(plan) for plan in calls if simulate(_SEED_OF_CALLS, num_moves=0, plans=[plan]).violations]


def _schedules(seeds: Sequence[int]) -> list[str]:
    from conclave.testing.simulation import simulate

    return [str(seed) for seed in seeds if simulate(seed).violations]


def _covered(num_schedules: int) -> tuple[float, list[str]]:
    """Percent of lines and branches, and what broke a law."""
    omitted = [str(_RUNTIME / f"{name}.py") for name in _OF_A_REAL_PROCESS]
    watch = coverage.Coverage(branch=True, source=[str(_RUNTIME)], omit=omitted, data_file=None)
    with watch.collect():
        broken = _schedules(range(num_schedules)) + _fates()
    return watch.report(show_missing=True, skip_covered=True), broken


def _schedules_until_found(name: str) -> int | None:
    """How many schedules it took until one broke a law with the fault in it; None where none did."""
    from conclave.testing.simulation import simulate
    from tests.simulation.faults import FAULTS

    fault = FAULTS[name]
    with fault.plant():
        for number in range(fault.within):
            if simulate(fault.first + number, only=fault.only).violations:
                return number + 1
    return None


def _faults(jobs: int) -> dict[str, object]:
    """How many faults were planted and how many were found, by how many schedules; and those that were not."""
    from conclave.runtime.memory import collect_seldom
    from tests.simulation.faults import FAULTS

    with ProcessPoolExecutor(jobs, initializer=collect_seldom) as pool:
        took = dict(zip(FAULTS, pool.map(_schedules_until_found, FAULTS), strict=True))
    found = [number for number in took.values() if number is not None]
    return {
        "num_faults_planted": len(took),
        "num_faults_found": len(found),
        "schedules_until_found": {"median": median(found), "most": max(found)} if found else {},
        "not_found": [name for name, number in took.items() if number is None],
    }


@click.command()
@click.option("--schedules", default=500, show_default=True)
@click.option(
    "--jobs", default=os.cpu_count() or 1, show_default=True, help="Processes in which faults are looked for."
)
def main(schedules: int, jobs: int) -> None:
    """Coverage first, as what is imported before it is not seen; then the time, without it; then the planted faults."""
    covered_pct, broken = _covered(schedules)
    from conclave.runtime.memory import collect_seldom

    collect_seldom()  # as in each process of a soak
    started = time.process_time()
    broken += _schedules(range(schedules))
    per_minute = schedules / (time.process_time() - started) * 60
    figures = {"runtime_covered_pct": round(covered_pct, 1), "schedules_a_minute_on_a_core": round(per_minute)}
    faults = _faults(jobs)
    click.echo(f"{figures}; {len(broken)} broke a law {broken[:10]}; {faults}")
    click.echo(record("simulated", {"num_schedules": schedules, **figures, "num_broken": len(broken), **faults}))


if __name__ == "__main__":
    main()
