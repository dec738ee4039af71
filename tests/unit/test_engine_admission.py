"""Who gets the engine next: laws of the line, and of the waiting room around it."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.domain.fair_queue import Flow, Ticket
from conclave.engine.admission import Admission, Line
from conclave.engine.cut import Cut
from conclave.engine.protocol import EngineLoad
from conclave.errors import PutBack

IDLE = EngineLoad(0, 0, 0.0)


@given(st.lists(st.sampled_from("abcde"), max_size=60), st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_sample_is_admitted_once_and_never_too_many_at_a_time(steps: list[str], max_running: int, rng) -> None:  # type: ignore[no-untyped-def]
    line = Line(max_running=max_running)
    waiting = [line.queue.enter(step) for step in steps]
    admitted: list[Ticket] = []
    running: list[Ticket] = []
    while len(admitted) < len(waiting):
        ticket = line.next(IDLE)
        if ticket is None or (running and rng.random() < 0.3):
            if ticket is not None:
                admitted.append(ticket)
                running.append(ticket)
            assert running, "an idle engine was given nothing"
            line.finished(running.pop())
            continue
        admitted.append(ticket)
        running.append(ticket)
        assert len(running) <= max_running
    assert sorted(admitted, key=lambda each: each.number) == waiting
    assert line.queue.num_waiting == 0


def test_samples_of_a_step_that_was_begun_come_before_those_of_a_new_one() -> None:
    line = Line(max_running=1)
    first = line.queue.enter("old")
    assert line.next(IDLE) == first
    new = line.queue.enter("new")
    second = line.queue.enter("old")
    line.finished(first)
    assert line.next(IDLE) == second
    line.finished(second)
    assert line.next(IDLE) == new


def test_nothing_new_is_submitted_while_the_cache_is_full_unless_nothing_runs() -> None:
    line = Line(max_running=8, kv_cache_use_limit=0.9)
    full = EngineLoad(1, 0, 0.95)
    first, second = line.queue.enter("a"), line.queue.enter("b")
    assert line.next(full) == first
    assert line.next(full) is None
    assert line.next(EngineLoad(1, 0, 0.5)) == second


def test_a_sample_that_leaves_is_not_admitted_any_more() -> None:
    line = Line(max_running=8)
    gone, stays = line.queue.enter("a"), line.queue.enter("a")
    line.queue.leave(gone)
    line.queue.leave(gone)
    assert line.next(IDLE) == stays
    assert line.next(IDLE) is None


async def test_turns_are_given_back_whoever_is_cancelled_and_wherever() -> None:
    admission = Admission(lambda: IDLE, max_running=2)
    running = 0

    async def work(rng: random.Random) -> None:
        nonlocal running
        async with admission.turn(rng.choice("abc")):
            running += 1
            assert running <= 2
            try:
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                running -= 1

    rng = random.Random(1)
    for _ in range(50):
        tasks = [asyncio.create_task(work(rng)) for _ in range(12)]
        for _ in range(rng.randrange(8)):
            await asyncio.sleep(0)
            rng.choice(tasks).cancel()
        async with asyncio.timeout(5):
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends)
        assert (running, admission.num_waiting) == (0, 0)
    async with asyncio.timeout(5), admission.turn("a"), admission.turn("b"):
        pass


async def test_what_has_not_begun_is_put_back_once_the_room_is_closed_and_what_has_comes_to_its_end() -> None:
    admission = Admission(lambda: IDLE, max_running=1)
    entered, may_end = asyncio.Event(), asyncio.Event()

    async def path(step: str, num_turns: int = 1) -> None:
        for turn in range(num_turns):
            async with admission.turn(step, has_begun=turn > 0):
                entered.set()
                await may_end.wait()

    async with asyncio.timeout(5):
        running = asyncio.create_task(path("a", num_turns=2))
        await entered.wait()
        waiting = asyncio.create_task(path("b"))
        while not admission.num_waiting:
            await asyncio.sleep(0)
        admission.close()
        with pytest.raises(PutBack):
            await waiting
        with pytest.raises(PutBack):
            await path("c")
        may_end.set()
        await running
    assert admission.num_waiting == 0


async def test_classes_that_wait_are_counted_apart() -> None:
    admission = Admission(lambda: IDLE, max_running=1)

    async def path(priority: str) -> None:
        async with admission.turn(priority, Flow(priority)):
            pass

    async with asyncio.timeout(5):
        async with admission.turn("first"):
            tasks = [asyncio.create_task(path(priority)) for priority in ("batch", "batch", "interactive")]
            await asyncio.sleep(0)
            assert admission.num_waiting_of == {"interactive": 1, "standard": 0, "batch": 2}
        await asyncio.gather(*tasks)
    assert admission.num_waiting == 0


async def test_what_has_begun_and_is_to_be_cut_waits_no_longer_and_what_has_not_waits_on() -> None:
    admission = Admission(lambda: IDLE, max_running=1)
    begun, unbegun = Cut(), Cut()

    async def enter(cut: Cut, *, has_begun: bool) -> None:
        async with admission.turn("a-step", has_begun=has_begun, cut=cut):
            pass

    async with admission.turn("another"):
        waiting = asyncio.create_task(enter(begun, has_begun=True))
        waits_on = asyncio.create_task(enter(unbegun, has_begun=False))
        await asyncio.sleep(0)
        begun.ask()
        unbegun.ask()
        with pytest.raises(PutBack):
            await waiting
        with pytest.raises(PutBack):
            await enter(begun, has_begun=True)  # it was asked for before
        assert (waits_on.done(), admission.num_waiting) == (False, 1)
    await waits_on
    await enter(begun, has_begun=True)  # it need not wait
    assert admission.num_waiting == 0
