"""Equivalence with a judge: which pairs it is asked, and what is made of its words, whatever they are."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from conclave.domain import counting
from conclave.domain.equivalence import EQUIVALENCES
from conclave.domain.equivalence.judged import MAX_REPRESENTATIVES, is_formula, is_worth_asking, joined, represented
from conclave.domain.replay import Recording, judged_recording
from schemas.values import Ask, Ballot, StopReason

ASK = Ask(form="any", equivalence="math", max_samples=40)
# Formulas that no reading takes for the same; the judge of these tests does, by their first letter after the function.
FORMULAS = ["sin(x)/y", "sin(x)^2/y", "cos(y)/x", "cos(y)^2/x", "tan(z)/x"]


def by_function(one: str, other: str) -> bool:
    return one[:3] == other[:3]


def cast(answers: Sequence[str | None]) -> list[Ballot]:
    return [Ballot(sample_index=at, answer=answer) for at, answer in enumerate(answers)]


@pytest.mark.parametrize("answer", ["x^2+1", r"\frac{\sin x}{x}", "3√2", "2x", "e^{x}", "xy+1"])
def test_a_formula_is_one(answer: str) -> None:
    assert is_formula(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Paris",
        "36 km",
        "no solution",
        "2024-01-05",
        "3:30 pm",
        "x is 5",
        "the sum of x^2",
        "B",
        "x" * 300,
        "5 or 6",
    ],
)
def test_what_is_no_formula_is_never_put_to_a_judge(answer: str) -> None:
    assert not is_worth_asking(answer, "x^2/y")
    assert not is_worth_asking("x^2/y", answer)


def test_plain_numbers_are_compared_exactly_without_a_judge() -> None:
    assert not is_worth_asking("1/2", "2/3")
    assert is_worth_asking("1/2", r"\sin(x)/2")


def test_a_letter_in_both_cases_is_two_variables_to_us_and_one_to_the_judge() -> None:
    assert not is_worth_asking("x^2/y", "X^2/y")


def test_what_the_judge_joins_is_one_vote_and_the_first_says_how_it_is_written() -> None:
    ballots, is_all = counting.judged_ballots(
        cast([FORMULAS[2], FORMULAS[0], FORMULAS[3], None, "36 km"]), ASK, by_function
    )
    assert is_all
    assert [each.same_as for each in ballots] == [0, 1, 0, None, None]
    result = counting.count(ballots, ASK, reason=StopReason.EXHAUSTED).result
    assert (result.answer, result.tally[0].votes) == (FORMULAS[2], 2)


def test_a_ballot_waits_for_the_judge_and_keeps_its_word_afterwards() -> None:
    asked: list[tuple[str, str]] = []

    def not_yet(one: str, other: str) -> bool | None:
        asked.append((one, other))
        return None

    waiting, is_all = counting.judged_ballots(cast(FORMULAS[:3]), ASK, not_yet)
    assert not is_all
    assert asked == [(FORMULAS[0], FORMULAS[1])]
    told, _ = counting.judged_ballots(waiting, ASK, by_function)
    again, is_all = counting.judged_ballots(told, ASK, not_yet)
    assert (is_all, list(again)) == (True, list(told)), "nobody is asked twice"


def test_an_answer_is_compared_with_a_bounded_number_of_others() -> None:
    asked: list[tuple[str, str]] = []

    def never(one: str, other: str) -> bool:
        asked.append((one, other))
        return False

    answers = [f"sin(x)^{number}/y" for number in range(2, 42)]
    represented(answers, EQUIVALENCES["math"](answers), [None] * 40, never)
    assert len(asked) < 40 * MAX_REPRESENTATIVES


@settings(max_examples=80)
@given(st.lists(st.sampled_from([*FORMULAS, "", "36", "36 km", "x^2/y"]), max_size=9), st.data())
def test_sameness_is_an_equivalence_relation_whatever_the_judge_says(answers: list[str], data: st.DataObject) -> None:
    def whim(one: str, other: str) -> bool:
        return data.draw(st.booleans())

    labels = EQUIVALENCES["math"](answers)
    same_as, is_all = represented(answers, labels, [None] * len(answers), whim)
    found = joined(labels, same_as)
    assert is_all
    assert all(bool(label) == bool(alike) for label, alike in zip(labels, found, strict=True))
    for one, alike in zip(labels, found, strict=True):
        assert all(other_alike == alike for other, other_alike in zip(labels, found, strict=True) if other == one)
    for earlier, place in ((same_as[place], place) for place in range(len(answers))):
        assert earlier is None or found[earlier] == found[place]


@settings(max_examples=80)
@given(st.lists(st.sampled_from([*FORMULAS, "1/2", ""]), max_size=8), st.integers(0, 8))
def test_a_prefix_is_judged_as_it_was_when_it_was_all(answers: list[str], length: int) -> None:
    whole, _ = counting.judged_ballots(cast(answers), ASK, by_function)
    prefix, _ = counting.judged_ballots(cast(answers[:length]), ASK, by_function)
    assert list(whole[:length]) == list(prefix)


@given(st.lists(st.one_of(st.none(), st.integers(0, 300)), min_size=5, max_size=5))
def test_a_forged_word_of_a_judge_fails_nobody(same_as: list[int | None]) -> None:
    ballots = [replace(ballot, same_as=place) for ballot, place in zip(cast(FORMULAS), same_as, strict=True)]
    assert counting.count(ballots, ASK, reason=StopReason.EXHAUSTED).result.answer is not None


def test_a_recording_says_what_is_the_same_in_the_same_words() -> None:
    recording = Recording("1", FORMULAS[3], tuple(cast([FORMULAS[2], FORMULAS[0], None, FORMULAS[3]])))
    told = judged_recording(recording, ASK, by_function)
    assert [each.answer for each in told.ballots] == [FORMULAS[2], FORMULAS[0], None, FORMULAS[2]]
    assert told.gold == FORMULAS[2]
