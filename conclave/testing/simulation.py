"""Every service on a broker and a database in memory, with all that can befall them drawn from a seed.

    report = simulate(seed=7)          # one schedule: some requests, some moves, then everything is mended
    assert not report.violations, report

A schedule is the same for the same seed and the same code: what fails can be run again. What it plays on is in `stage`, what is
asked in `asking`, what befalls the services in `moves`.
"""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import structlog

from conclave.testing import laws
from conclave.testing.asking import ask, ask_again, replay_letters
from conclave.testing.loop import Standstill
from conclave.testing.moves import MOVES, ODDITIES, retention
from conclave.testing.network import Fate, Plan, Request
from conclave.testing.stage import SETTLE_S, TROUBLE_S, Report, Stage
from schemas.events import PlanMade
from schemas.flow import Topic

_ODDITY_SHARE = 0.05  # of the schedules, for each


def simulate(
    seed: int, *, num_moves: int | None = None, only: Collection[str] = (), plans: Collection[Plan] = ()
) -> Report:
    """Plays the schedule of a seed.

    `num_moves` and `only` say how many moves there are and which, instead of the seed; `plans` befall the broker,
    the database or the world, whichever is asked for such a thing.
    """
    with quiet():
        simulation = Simulation(seed, num_moves=num_moves, only=only)
        for plan in plans:
            simulation.network_of(plan.request).plans.append(plan)
        return simulation.run()


@contextmanager
def quiet() -> Iterator[None]:
    """Logs nothing inside: a simulated service would say what it always says, thousands of times."""
    before = structlog.get_config()
    # structlog calls what it takes for a class: here one silence serves for all lines.
    structlog.configure(wrapper_class=cast("Any", lambda *_, **__: _SILENT), logger_factory=lambda *_: None)
    try:
        yield
    finally:
        structlog.configure(**before)


class _Silence:
    """A logger that says nothing and costs as little: a proxy makes one with each line."""

    def debug(self, event: str, **fields: object) -> None:
        """Nothing."""

    info = warning = error = critical = exception = debug

    def is_enabled_for(self, level: int) -> bool:
        """False."""
        return False


_SILENT = _Silence()


class Simulation(Stage):
    """One schedule: what is asked, what befalls the services meanwhile, and whether it ends well."""

    def __init__(self, seed: int, *, num_moves: int | None = None, only: Collection[str] = ()) -> None:
        super().__init__(seed)
        self._num_moves = self.rng.randint(0, 8) if num_moves is None else num_moves
        self._moves = [row for row in MOVES if not only or row[0].__name__ in only]

    def run(self) -> Report:
        """Plays the schedule and judges what is left."""
        try:
            self.loop.run_until_complete(self._play())
        except Standstill as error:
            self.report.violations.append(str(error))
        report = self.report
        report.violations += laws.violations(self.cluster, self.database, self.expected, self.world)
        report.violations += [f"left lying about: {complaint}" for complaint in self.loop.complaints]
        report.moves += [f"{at:7.3f} {who} {request}: {fate}" for at, who, request, fate in self._befallen()]
        report.moves.sort()
        report.virtual_s, report.num_callbacks = self.loop.time(), self.loop.num_callbacks
        if self.processes.recall != "off":
            report.num_recalled = sum(
                isinstance(event, PlanMade) and event.recalled_from is not None
                for event in laws.events(self.cluster.records(Topic.STEPS.value))
            )
        report.num_aborted = sum(partition.num_aborted for partition in self.cluster.partitions.values())
        report.num_records = sum(partition.end for partition in self.cluster.partitions.values())
        report.num_deleted = sum(partition.begin for partition in self.cluster.partitions.values())
        return report

    def _befallen(self) -> Sequence[tuple[float, str, Request, Fate]]:
        return [each for network in self.networks for each in network.befallen]

    async def _play(self) -> None:
        deleting = self.loop.create_task(retention(self)) if self.is_deleting else None
        try:
            await self._play_all()
        finally:
            if deleting is not None:
                deleting.cancel()

    async def _play_all(self) -> None:
        for service in self.services:
            for _ in range(self.rng.choice((1, 1, 1, 2))):
                self.processes.start(service)
        async with asyncio.TaskGroup() as tasks:
            for oddity in ODDITIES:
                if self.oddities.random() < _ODDITY_SHARE:
                    tasks.create_task(oddity(self))
            for number in range(self.rng.randint(1, 3)):
                tasks.create_task(ask(self, number, self.rng.random() * TROUBLE_S, tasks))
            for _ in range(self._num_moves):
                tasks.create_task(self._move(self.rng.random() * TROUBLE_S))
        self.mend()
        await self.settle()
        if self.processes.recall != "off":
            await ask_again(self)
        if self.oddities.random() < _ODDITY_SHARE:
            await replay_letters(self)
        # A day later: a group that should be over and is not speaks now.
        for process in self.processes.alive.values():
            process.skew_ms += 86_400_000
        await asyncio.sleep(0.5)
        await self.settle()
        await self.until(lambda: all(process.is_ready for process in self.processes.alive.values()), SETTLE_S)
        self.report.violations += [
            f"{name} is not ready" for name, process in self.processes.alive.items() if not process.is_ready
        ]
        if self.rng.random() < 0.2:
            for process in list(self.processes.alive.values()):
                self.processes.stop(process)
            await self.until(lambda: not self.processes.alive, 30.0)

    async def _move(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        move = self.rng.choices([move for move, _ in self._moves], [weight for _, weight in self._moves])[0]
        await move(self)
