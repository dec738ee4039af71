"""The simulator itself, and the rows of the crash table that a real broker hits by luck alone."""

import asyncio

import pytest

from conclave import policies
from conclave.domain import external
from conclave.domain.programs import PROGRAMS
from conclave.domain.strategies import STRATEGIES
from conclave.domain.structured.asking import of_schema
from conclave.testing import asking
from conclave.testing.loop import PROCESS, Standstill, VirtualLoop
from conclave.testing.network import Fate, Plan, Request
from conclave.testing.simulation import simulate
from conclave.testing.world import CALLING_POLICIES, declared

LANE_SERVICES = ("decomposer", "decoder", "voter", "aggregator")
SEED = 2  # its requests reach every service


def test_random_schedules_break_no_law() -> None:
    for seed in range(100_000, 100_030):
        report = simulate(seed)
        assert not report.violations, report


@pytest.mark.parametrize("service", LANE_SERVICES)
def test_a_service_killed_with_its_transaction_open_leaves_nothing_to_see(service: str) -> None:
    # Row 2 of the crash table. The offsets are the last that a transaction sends before its commit.
    report = simulate(seed=SEED, num_moves=0, plans=[Plan(Fate.KILLED_BEFORE, Request.COMMIT, service)])
    assert report.num_aborted > 0, "there was nothing to abort"
    assert not report.violations, report


@pytest.mark.parametrize("service", LANE_SERVICES)
@pytest.mark.parametrize("fate", [Fate.LOST_REPLY, Fate.KILLED_AFTER])
def test_a_commit_without_a_reply_counts_once(service: str, fate: Fate) -> None:
    # Row 3 of the crash table: the committed set, read back, tells that it counted.
    report = simulate(seed=SEED, num_moves=0, plans=[Plan(fate, Request.COMMIT, service)])
    assert report.num_aborted == 0, "the commit did not count"
    assert not report.violations, report


def test_hours_of_virtual_time_pass_at_once_and_in_order() -> None:
    order: list[str] = []

    async def after(delay_s: float, name: str) -> None:
        await asyncio.sleep(delay_s)
        order.append(name)

    async def main() -> float:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(after(7200, "later"))
            tasks.create_task(after(3600, "sooner"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert VirtualLoop().run_until_complete(main()) == 7260  # type: ignore[abstract]
    assert order == ["sooner", "later"]


def test_what_can_never_happen_is_said_and_not_waited_for() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Standstill):
        VirtualLoop().run_until_complete(main())  # type: ignore[abstract]


def test_a_frozen_process_does_nothing_until_it_is_thawed() -> None:
    loop = VirtualLoop()  # type: ignore[abstract]
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(loop.time())
            await asyncio.sleep(1)

    async def main() -> None:
        PROCESS.set("frozen")
        task = asyncio.create_task(beat())
        PROCESS.set("")
        await asyncio.sleep(2.5)
        loop.freeze("frozen")
        await asyncio.sleep(10)
        loop.thaw("frozen")
        await asyncio.sleep(1.5)
        task.cancel()

    loop.run_until_complete(main())
    assert beats == [0, 1, 2, 12.5, 13.5]


def test_schedules_ask_by_every_strategy_and_every_program() -> None:
    with declared():
        found, problems = policies.load(CALLING_POLICIES)
    assert problems == []
    asked = [found.find(name) for name in asking.POLICIES]
    assert {policy.strategy for policy in asked if policy is not None} == set(STRATEGIES)
    asks = [ask for policy in asked if policy is not None for ask in policy.asks.values()]
    of_json = [of_schema(ask, "{}") for ask in asks if ask.program == "once"]
    assert {ask.program for ask in (*asks, *of_json)} == {*PROGRAMS, external.PROGRAM}
