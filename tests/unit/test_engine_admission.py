"""Which sample the engine gets next: laws of the admission policy."""

from hypothesis import given
from hypothesis import strategies as st

from conclave.engine.admission import Admission, Ticket
from conclave.engine.protocol import EngineLoad

IDLE = EngineLoad(0, 0, 0.0)


@given(st.lists(st.sampled_from("abcde"), max_size=60), st.integers(1, 6), st.randoms(use_true_random=False))
def test_every_sample_is_admitted_once_and_never_too_many_at_a_time(steps: list[str], max_running: int, rng) -> None:  # type: ignore[no-untyped-def]
    admission = Admission(max_running=max_running)
    waiting = [admission.enter(step) for step in steps]
    admitted: list[Ticket] = []
    running = 0
    while len(admitted) < len(waiting):
        ticket = admission.next(IDLE)
        if ticket is None or (running and rng.random() < 0.3):
            if ticket is not None:
                admitted.append(ticket)
                running += 1
            assert running > 0, "an idle engine was given nothing"
            admission.finished()
            running -= 1
            continue
        admitted.append(ticket)
        running += 1
        assert running <= max_running
    assert sorted(admitted, key=lambda each: each.number) == waiting
    assert admission.num_waiting == 0


def test_samples_of_a_step_that_was_begun_come_before_those_of_a_new_one() -> None:
    admission = Admission(max_running=1)
    first = admission.enter("old")
    assert admission.next(IDLE) == first
    new = admission.enter("new")
    second = admission.enter("old")
    admission.finished()
    assert admission.next(IDLE) == second
    admission.finished()
    assert admission.next(IDLE) == new


def test_nothing_new_is_submitted_while_the_cache_is_full_unless_nothing_runs() -> None:
    admission = Admission(max_running=8, kv_cache_use_limit=0.9)
    full = EngineLoad(1, 0, 0.95)
    first, second = admission.enter("a"), admission.enter("b")
    assert admission.next(full) == first
    assert admission.next(full) is None
    assert admission.next(EngineLoad(1, 0, 0.5)) == second


def test_a_sample_that_leaves_is_not_admitted_any_more() -> None:
    admission = Admission(max_running=8)
    gone, stays = admission.enter("a"), admission.enter("a")
    admission.leave(gone)
    admission.leave(gone)
    assert admission.next(IDLE) == stays
    assert admission.next(IDLE) is None
