"""How many run at once: the laws of the controller, and what it does to an engine whose cache is too small for all."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.in_flight import Cutting, Played, played
from conclave.domain.in_flight import InFlight

events = st.lists(
    st.tuples(st.booleans(), st.floats(0, 1), st.integers(0, 2), st.integers(0, 70), st.floats(0, 1)), max_size=200
)


@given(events, st.integers(1, 64), st.integers(0, 64))
def test_the_limit_stays_within_its_bounds_and_is_cut_once_a_round_at_most(
    said: list[tuple[bool, float, int, int, float]], least: int, more: int
) -> None:
    control = InFlight(least=least, most=least + more, kv_cache_use_limit=0.95)
    preemptions, num_ended, cuts = 0, 0, []
    for has_ended, share, preempted, running, queued in said:
        before = control.num_cuts
        if has_ended:
            num_ended += 1
            control.ended(queued_ms=1000 * queued, total_ms=1000.0, running=running)
        else:
            preemptions += preempted
            control.look(kv_cache_use=share, preemptions=preemptions, running=running)
        if control.num_cuts > before:
            cuts.append((num_ended, running))
        assert least <= control.limit <= least + more
    for (earlier, running), (later, _) in itertools.pairwise(cuts):
        assert later - earlier >= running


@given(st.integers(1, 20), st.integers(0, 60))
def test_without_pressure_the_limit_is_the_most_and_after_it_the_most_again(least: int, more: int) -> None:
    most = least + more
    control = InFlight(least=least, most=most, kv_cache_use_limit=0.95)
    assert control.limit == most
    control.look(kv_cache_use=0.99, preemptions=3, running=most)
    assert control.limit == max(least, int(0.9 * most)) if most > least else most
    control.look(kv_cache_use=0.5, preemptions=3, running=control.limit)
    for _ in range(most * most + 2 * most):
        control.ended(queued_ms=1.0, total_ms=1000.0, running=control.limit)
    assert control.limit == most


def test_what_presses_all_the_time_comes_down_to_the_least() -> None:
    control = InFlight(least=4, most=64, kv_cache_use_limit=0.95)
    for preemptions in range(1, 2000):
        control.look(kv_cache_use=0.97, preemptions=preemptions, running=control.limit)
        control.ended(queued_ms=900.0, total_ms=1000.0, running=control.limit)
    assert control.limit == 4


def test_a_limit_that_nobody_reaches_does_not_grow() -> None:
    control = InFlight(least=1, most=64, kv_cache_use_limit=0.95)
    control.look(kv_cache_use=0.99, preemptions=0, running=64)
    control.look(kv_cache_use=0.1, preemptions=0, running=2)
    cut = control.limit
    for _ in range(500):
        control.ended(queued_ms=0.0, total_ms=1000.0, running=2)
    assert control.limit == cut < 64


def test_an_engine_that_starts_anew_counts_its_preemptions_anew_and_that_is_no_pressure() -> None:
    control = InFlight(least=1, most=64, kv_cache_use_limit=0.95)
    control.look(kv_cache_use=0.1, preemptions=5, running=64)
    for _ in range(64):
        control.ended(queued_ms=0.0, total_ms=1000.0, running=2)
    control.look(kv_cache_use=0.1, preemptions=0, running=48)
    assert control.num_cuts == 1
    control.look(kv_cache_use=0.1, preemptions=1, running=48)
    assert control.num_cuts == 2


@pytest.mark.parametrize(("least", "most"), [(0, 4), (5, 4)])
def test_bounds_that_are_none_are_refused(least: int, most: int) -> None:
    with pytest.raises(ValueError, match="least"):
        InFlight(least=least, most=most, kv_cache_use_limit=0.95)


def _played(capacity: int, min_running: int | None) -> Played:
    return played("long-tailed", capacity=capacity, min_running=min_running, num_paths=600)


def test_where_the_cache_has_room_for_all_nothing_changes() -> None:
    assert _played(100_000, 4) == _played(100_000, None)


def test_where_the_cache_is_too_small_less_is_thrown_out_and_about_as_much_decoded() -> None:
    fixed, adaptive = (_played(6_000, least) for least in (None, 4))
    assert fixed.num_preempted > 0
    assert adaptive.num_preempted < 0.6 * fixed.num_preempted
    assert adaptive.num_computed_again < 0.7 * fixed.num_computed_again
    assert adaptive.tokens_per_s > 0.95 * fixed.tokens_per_s


def test_to_cut_what_was_thrown_out_spares_tokens_that_are_cheap_and_to_cut_the_youngest_costs_some() -> None:
    """What decision 0065 stands on."""

    def way(cutting: Cutting) -> Played:
        return played("steady", capacity=6_000, min_running=4, num_paths=1_000, cutting=cutting)

    waiting, thrown_out, youngest = map(way, Cutting)
    assert thrown_out.num_computed_again < waiting.num_computed_again < youngest.num_computed_again
    for each in (thrown_out, youngest):
        assert each.tokens_per_s == pytest.approx(waiting.tokens_per_s, rel=0.02)
