"""A tenant's budget of tokens over 24 hours."""

from hypothesis import given
from hypothesis import strategies as st

from conclave.domain.tenant_budget import Spent, free_in_s

_HOURS = st.lists(st.builds(Spent, st.integers(0, 26 * 3600).map(float), st.integers(0, 1000)), max_size=26)


def test_a_budget_is_free_again_when_enough_of_the_oldest_hours_have_left_the_window() -> None:
    hours = [Spent(23 * 3600.0, 40), Spent(10 * 3600.0, 30), Spent(0.0, 40)]
    assert free_in_s(hours, 0, 111) is None
    assert free_in_s(hours, 0, 110) == 3600.0
    assert free_in_s(hours, 0, 50) == 14 * 3600.0
    assert free_in_s(hours, 1, 41) == 24 * 3600.0
    assert free_in_s([Spent(25 * 3600.0, 500)], 0, 1) is None
    assert free_in_s([Spent(23 * 3600.0, 40)], 10, 10) == 24 * 3600.0, "what is under way has yet to be counted"


@given(_HOURS, st.integers(0, 500), st.integers(1, 5000))
def test_after_the_time_that_is_told_there_is_room_and_not_before(
    hours: list[Spent], under_way: int, tokens_per_day: int
) -> None:
    told = free_in_s(hours, under_way, tokens_per_day)
    if told is None or under_way >= tokens_per_day:
        return

    def later(seconds: float) -> list[Spent]:
        return [Spent(hour.age_s + seconds, hour.tokens) for hour in hours]

    assert free_in_s(later(told), under_way, tokens_per_day) is None
    assert told > 0
    assert free_in_s(later(told - 0.5), under_way, tokens_per_day) is not None


@given(_HOURS, st.integers(0, 500), st.integers(1, 5000))
def test_whoever_spends_less_never_waits_longer(hours: list[Spent], under_way: int, tokens_per_day: int) -> None:
    told = free_in_s(hours, under_way, tokens_per_day) or 0.0
    assert (free_in_s(hours[1:], under_way, tokens_per_day) or 0.0) <= told
    assert (free_in_s(hours, max(0, under_way - 1), tokens_per_day) or 0.0) <= told
    assert (free_in_s(hours, under_way, tokens_per_day + 1) or 0.0) <= told
