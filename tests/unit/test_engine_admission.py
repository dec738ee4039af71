"""Who gets the engine next: laws of the line, and of the waiting room around it."""

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from conclave.engine.admission import Admission, Line, Ticket
from conclave.engine.protocol import EngineLoad

IDLE = EngineLoad(0, 0, 0.0)


@given(st.lists(st.sampled_from("abcde"), max_size=60), st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_sample_is_admitted_once_and_never_too_many_at_a_time(steps: list[str], max_running: int, rng) -> None:  # type: ignore[no-untyped-def]
    line = Line(max_running=max_running)
    waiting = [line.enter(step) for step in steps]
    admitted: list[Ticket] = []
    running = 0
    while len(admitted) < len(waiting):
        ticket = line.next(IDLE)
        if ticket is None or (running and rng.random() < 0.3):
            if ticket is not None:
                admitted.append(ticket)
                running += 1
            assert running > 0, "an idle engine was given nothing"
            line.finished()
            running -= 1
            continue
        admitted.append(ticket)
        running += 1
        assert running <= max_running
    assert sorted(admitted, key=lambda each: each.number) == waiting
    assert line.num_waiting == 0


def test_samples_of_a_step_that_was_begun_come_before_those_of_a_new_one() -> None:
    line = Line(max_running=1)
    first = line.enter("old")
    assert line.next(IDLE) == first
    new = line.enter("new")
    second = line.enter("old")
    line.finished()
    assert line.next(IDLE) == second
    line.finished()
    assert line.next(IDLE) == new


def test_nothing_new_is_submitted_while_the_cache_is_full_unless_nothing_runs() -> None:
    line = Line(max_running=8, kv_cache_use_limit=0.9)
    full = EngineLoad(1, 0, 0.95)
    first, second = line.enter("a"), line.enter("b")
    assert line.next(full) == first
    assert line.next(full) is None
    assert line.next(EngineLoad(1, 0, 0.5)) == second


def test_a_sample_that_leaves_is_not_admitted_any_more() -> None:
    line = Line(max_running=8)
    gone, stays = line.enter("a"), line.enter("a")
    line.leave(gone)
    line.leave(gone)
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
