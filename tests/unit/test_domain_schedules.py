import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.domain import counting
from conclave.domain.schedules import SCHEDULES, Standing, num_to_launch
from conclave.testing import events as made
from schemas.values import Ask, Ballot

standings = st.builds(
    lambda in_order, ahead, gap, needed, left, load: Standing(
        needed=needed,
        in_order=in_order,
        launched=in_order + ahead + gap,
        reported=in_order + ahead,
        most=in_order + ahead + gap + left,
        load=load,
    ),
    st.integers(0, 20),
    st.integers(0, 5),
    st.integers(0, 20),
    st.integers(1, 20),
    st.integers(0, 40),
    st.none() | st.floats(0.0, 1.0),
)
asks = st.builds(
    Ask,
    form=st.just("any"),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    params=st.fixed_dictionaries({"in_flight": st.integers(1, 20).map(float), "lookahead": st.floats(1.0, 16.0)}),
)


def standing(load: float | None = None, **changes: int) -> Standing:
    figures = {"needed": 4, "in_order": 0, "launched": 0, "reported": 0, "most": 40, **changes}
    return Standing(**figures, load=load)


@given(standings, asks)
def test_no_schedule_launches_more_than_the_ask_allows_or_leaves_a_step_without_what_it_needs(
    standing: Standing, ask: Ask
) -> None:
    num_more = num_to_launch(standing, ask)
    assert 0 <= num_more <= standing.most - standing.launched
    if not standing.running:
        assert num_more >= min(standing.needed, standing.most - standing.launched)


@pytest.mark.parametrize(
    ("schedule", "first", "with_three_running", "with_none_running"),
    [("waves", 4, 0, 4), ("as_needed", 4, 1, 4), ("in_flight", 8, 5, 8), ("at_once", 40, 36, 36), ("auto", 16, 13, 16)],
)
def test_what_each_schedule_launches_of_a_deficit_of_four(
    schedule: str, first: int, with_three_running: int, with_none_running: int
) -> None:
    ask = Ask(form="any", schedule=schedule, max_samples=40)
    assert num_to_launch(standing(), ask) == first
    assert num_to_launch(standing(in_order=1, launched=4, reported=1), ask) == with_three_running
    assert num_to_launch(standing(in_order=4, launched=4, reported=4), ask) == with_none_running


@pytest.mark.parametrize(("load", "launched"), [(None, 16), (0.0, 16), (0.5, 10), (1.0, 4)])
def test_auto_is_the_bolder_the_emptier_the_engine_is(load: float | None, launched: int) -> None:
    assert num_to_launch(standing(load), Ask(form="any", schedule="auto", max_samples=40)) == launched


def test_an_engine_is_judged_by_what_the_latest_paths_say_of_it() -> None:
    ask = made.ask(schedule="auto", max_samples=40)
    told = [Ballot(sample_index=index, answer=str(index), load=float(index < 8)) for index in range(16)]
    unsaid = [Ballot(sample_index=index, answer=str(index)) for index in range(16)]
    assert counting.launch(told[:8], 8, ask) == counting.deficit(told[:8], ask)
    assert counting.launch(told, 16, ask) == counting.launch(unsaid, 16, ask) > counting.deficit(told, ask)


def test_what_is_satisfied_launches_nothing_however_bold_the_schedule() -> None:
    ask = made.ask(schedule="at_once", max_samples=40)
    assert counting.launch([Ballot(sample_index=index, answer="4") for index in range(4)], 4, ask) == 0
