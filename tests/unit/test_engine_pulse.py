"""An engine is silent only while somebody waits for it."""

from conclave.engine.pulse import Pulse


def test_an_idle_engine_has_nothing_to_say() -> None:
    pulse = Pulse()
    pulse.heard(1.0)
    assert pulse.silent_s(1000.0) == 0.0


def test_silence_begins_with_the_first_of_the_calls_that_wait() -> None:
    pulse = Pulse()
    pulse.heard(1.0)
    with pulse.waiting(100.0):
        with pulse.waiting(150.0):
            assert pulse.silent_s(160.0) == 60.0
        assert pulse.silent_s(170.0) == 70.0
    assert pulse.silent_s(170.0) == 0.0


def test_a_step_ends_the_silence() -> None:
    pulse = Pulse()
    with pulse.waiting(100.0):
        pulse.heard(130.0)
        assert pulse.silent_s(135.0) == 5.0
