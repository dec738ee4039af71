from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.domain import stopping
from conclave.domain.equivalence import EQUIVALENCES
from conclave.domain.stopping import STOPPING_RULES, leader_confidence, next_wave, num_needed, shortest_stop, window
from conclave.testing import events as made
from schemas.values import Ask

ANSWERS = ["a", "b", "c", ""]
AS_WRITTEN = EQUIVALENCES["verbatim"]
answer_lists = st.lists(st.sampled_from(ANSWERS) | st.just("a"), max_size=24)
asks = st.builds(
    Ask,
    form=st.just("any"),
    stopping=st.sampled_from(sorted(STOPPING_RULES)),
    params=st.fixed_dictionaries(
        {
            "stop_confidence": st.sampled_from([0.0, 0.5, 0.8, 0.95, 0.99, 1.0]),
            "window": st.integers(1, 7).map(float),
            "lead": st.integers(1, 6).map(float),
        }
    ),
    max_samples=st.integers(1, 64),
)
open_asks = asks.filter(lambda ask: ask.stopping != "fixed")


def ask(stopping: str, max_samples: int = 16, **params: float) -> Ask:
    return Ask(form="any", stopping=stopping, max_samples=max_samples, params=params)


@pytest.mark.parametrize(("leader", "runner_up"), [(1, 0), (4, 0), (5, 1), (3, 3), (7, 2), (20, 19), (0, 0)])
def test_leader_confidence_is_the_beta_posterior_integrated_term_by_term(leader: int, runner_up: int) -> None:
    # P(p > 1/2) for Beta(a+1, b+1): x^a (1-x)^b expanded and integrated from 1/2 to 1, over the same from 0 to 1.
    def integral(low: Fraction) -> Fraction:
        terms = (
            (-1) ** i * comb(runner_up, i) * (1 - low ** (leader + i + 1)) / (leader + i + 1)
            for i in range(runner_up + 1)
        )
        return sum(terms, Fraction(0))

    expected = integral(Fraction(1, 2)) / integral(Fraction(0)) if leader else 0
    assert leader_confidence(leader, runner_up) == float(expected)


def test_a_unanimous_first_wave_of_four_satisfies_the_default_policy() -> None:
    assert [next_wave(["a"] * seen, made.ask()) for seen in range(5)] == [4, 3, 2, 1, 0]


def test_one_dissent_costs_the_default_policy_more_samples() -> None:
    assert next_wave(["a", "b", "a", "a"], made.ask()) == 3
    assert next_wave(["a", "a", "a", ""], made.ask()) == 1


def test_early_stopping_takes_windows_one_after_the_other() -> None:
    rule = ask("early_stopping", window=3)
    assert [num_needed(answers, rule) for answers in ([], ["a"], ["a", "b"], ["a", "b", "b"], ["b", "b", ""])] == [
        3,
        2,
        4,
        3,
        3,
    ]
    # Three in a row, but across two windows.
    assert shortest_stop(["a", "b", "b", "b", "c", "c"], rule, AS_WRITTEN) is None
    assert shortest_stop(["a", "b", "b", "c", "c", "c"], rule, AS_WRITTEN) == 6


def test_ahead_by_k_counts_the_lead_over_the_runner_up() -> None:
    assert shortest_stop(["a", "b", "a", "a", "a", "a"], ask("ahead_by_k", lead=3), AS_WRITTEN) == 5


def test_a_fixed_number_is_drawn_whatever_the_answers_say() -> None:
    rule = ask("fixed", max_samples=8)
    assert (next_wave([], rule), next_wave(["a"] * 8, rule), shortest_stop(["a"] * 8, rule, AS_WRITTEN)) == (8, 0, None)


@given(answer_lists, asks)
def test_the_shortest_stop_is_the_first_satisfied_prefix(answers: list[str], ask: Ask) -> None:
    satisfied = [length for length in range(len(answers) + 1) if num_needed(answers[:length], ask) == 0]
    assert shortest_stop(answers, ask, AS_WRITTEN) == (satisfied[0] if satisfied else None)


@given(answer_lists, open_asks, st.data())
def test_no_continuation_satisfies_a_rule_before_its_deficit_is_met(
    answers: list[str], ask: Ask, data: st.DataObject
) -> None:
    needed = min(num_needed(answers, ask), 40)
    further = data.draw(st.lists(st.sampled_from(ANSWERS), min_size=0, max_size=max(0, needed - 1)))
    assert needed == 0 or num_needed([*answers, *further], ask) > 0


@given(answer_lists, open_asks)
def test_a_deficit_is_met_when_all_further_votes_go_to_the_leader(answers: list[str], ask: Ask) -> None:
    needed = num_needed(answers, ask)
    if ask.stopping == "early_stopping":
        open_window = answers[len(answers) - len(answers) % window(ask) :]
        leader = next((answer for answer in open_window if answer), "a")
    else:
        leader = max("abc", key=answers.count)
    assert num_needed([*answers, *[leader] * needed], ask) == 0


@given(answer_lists, asks)
def test_a_wave_is_never_more_than_the_policy_allows(answers: list[str], ask: Ask) -> None:
    assert 0 <= next_wave(answers, ask) <= max(0, ask.max_samples - len(answers))


@given(answer_lists)
def test_a_sample_without_an_answer_votes_for_nobody(answers: list[str]) -> None:
    assert stopping.top_two(answers) == stopping.top_two([answer for answer in answers if answer])
