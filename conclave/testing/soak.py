"""`python -m conclave.testing.soak`: many schedules, over all cores; each seed that breaks a law is printed.

python -m conclave.testing.soak --schedules 10000
python -m conclave.testing.soak --schedules 1000000 --minutes 5      # as many of them as that allows
python -m conclave.testing.soak --replay 4711        # one of them again, with all that the services say
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import click
import structlog
from structlog.typing import EventDict, WrappedLogger

from conclave.runtime.memory import collect_seldom
from conclave.testing.loop import PROCESS
from conclave.testing.simulation import Simulation, simulate
from conclave.testing.stage import Report

_CHUNK = 50  # schedules that a worker plays before it reports


@dataclass(frozen=True, slots=True)
class Soak:
    """What so many schedules came to."""

    num_schedules: int
    elapsed_s: float
    virtual_s: float
    broken: tuple[Report, ...]

    def __str__(self) -> str:
        per_minute = self.num_schedules / self.elapsed_s * 60
        return (
            f"{self.num_schedules} schedules in {self.elapsed_s:.0f} s ({per_minute:.0f} a minute), "
            f"{self.virtual_s / 3600:.1f} virtual hours: {len(self.broken)} broke a law"
        )


def soak(first: int, num_schedules: int, jobs: int, *, limit_s: float = float("inf")) -> Soak:
    """Plays the schedules of seeds `first`, `first` + 1, … in `jobs` processes, each of them until the limit has passed."""
    started, num_played, virtual_s, broken = time.monotonic(), 0, 0.0, []
    chunks = [
        range(low, min(low + _CHUNK, first + num_schedules)) for low in range(first, first + num_schedules, _CHUNK)
    ]
    with ProcessPoolExecutor(jobs, initializer=collect_seldom) as pool:
        for played, seconds, reports in pool.map(partial(_play, started + limit_s), chunks):
            num_played += played
            virtual_s += seconds
            for report in reports:
                print(f"{report}\nagain: python -m conclave.testing.soak --replay {report.seed}", flush=True)
                broken.append(report)
    return Soak(num_played, time.monotonic() - started, virtual_s, tuple(broken))


def _play(until_s: float, seeds: range) -> tuple[int, float, list[Report]]:
    """How many were played before this reading of the clock, which processes share; their virtual seconds; and what broke a law."""
    reports = [simulate(seed) for seed in seeds if time.monotonic() < until_s]
    return (
        len(reports),
        sum(report.virtual_s for report in reports),
        [report for report in reports if report.violations],
    )


def replay(seed: int) -> Report:
    """Plays one schedule, and prints all that its services log."""
    before = structlog.get_config()
    structlog.configure(processors=[_print])
    try:
        return Simulation(seed).run()
    finally:
        structlog.configure(**before)


def _print(_: WrappedLogger, __: str, event: EventDict) -> str:
    now_s, process = asyncio.get_running_loop().time(), PROCESS.get()
    print(f"{now_s:8.4f} {process:14}", *_fields(event))
    raise structlog.DropEvent


def _fields(event: EventDict) -> Iterator[str]:
    yield str(event.pop("event"))
    yield from (f"{name}={value}" for name, value in event.items())


@click.command()
@click.option("--schedules", default=10_000, show_default=True)
@click.option("--from", "first", default=0, show_default=True, help="The first seed.")
@click.option(
    "--minutes", default=float("inf"), help="Play what is left of them no more after so long.  [default: no limit]"
)
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True)
@click.option("--replay", "again", type=int, help="Play the schedule of this seed, and say all that happens.")
def main(schedules: int, first: int, minutes: float, jobs: int, again: int | None) -> None:
    """Play random schedules of every service, and judge each by the laws."""
    if again is not None:
        report = replay(again)
        print(report)
        sys.exit(1 if report.violations else 0)
    found = soak(first, schedules, jobs, limit_s=60 * minutes)
    print(found)
    sys.exit(1 if found.broken else 0)


if __name__ == "__main__":
    main()
