"""`python -m benchmarks.simulated`: schedules a minute on one core, and how much of the runtime the simulated laws run through.

Coverage is of lines and branches of what of `conclave/runtime/` stands on the broker's port: a process's settings, logs, health
server and start, and all that speaks to a real Kafka, have no place in a simulation. Random schedules are played, and one with
each fate of each request of each service.
"""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

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


@click.command()
@click.option("--schedules", default=500, show_default=True)
def main(schedules: int) -> None:
    """Coverage first, as what is imported before it is not seen; then the time, without it."""
    covered_pct, broken = _covered(schedules)
    from conclave.runtime.memory import collect_seldom

    collect_seldom()  # as in each process of a soak
    started = time.process_time()
    broken += _schedules(range(schedules))
    per_minute = schedules / (time.process_time() - started) * 60
    figures = {"runtime_covered_pct": round(covered_pct, 1), "schedules_a_minute_on_a_core": round(per_minute)}
    click.echo(f"{figures}; {len(broken)} broke a law {broken[:10]}")
    click.echo(record("simulated", {"num_schedules": schedules, **figures, "num_broken": len(broken)}))


if __name__ == "__main__":
    main()
