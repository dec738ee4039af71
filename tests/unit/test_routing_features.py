"""What a router sees of a question: numbers, intents, and figures of any text."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from conclave.domain.questions import Kind, tokens
from conclave.domain.routing.features import INTENTS, Seen, figures
from tests.routed_questions import HARD


@pytest.mark.parametrize(
    ("question", "values"),
    [
        ("thirty-six apples and 1,000 pears", ["36", "1000"]),
        ("two-thirds of 3.50", ["2/3", "7/2"]),
        ("one hundred and five, twenty one, a dozen", ["105", "21", "12"]),
        ("version 1.2.3", ["None"]),
        ("someone at the tenth stand", []),
    ],
)
def test_numbers_are_seen_in_digits_and_in_words(question: str, values: list[str]) -> None:
    assert [str(each.value) for each in tokens(question) if each.kind is Kind.NUMBER] == values


@pytest.mark.parametrize(
    ("question", "intent"),
    [
        ("What is 2+(3*4)?", "calculation"),
        ("12 plus 7 times 3", "calculation"),
        (HARD, "word_problem"),
        ("Which is true? A) 1 B) 2 C) 3", "choice"),
        ("def f(x): return x", "code"),
        ("Why is the sky blue?", "reasoning"),
        ("Is it raining?", "yes_no"),
        ("Who wrote Faust?", "lookup"),
        ("Tell me a story", "other"),
        ("Wie viel ist 3*4", "other"),
    ],
)
def test_a_question_s_intent_is_told_by_its_words_and_signs(question: str, intent: str) -> None:
    assert Seen(question).intent == intent


@given(st.text(max_size=400))
@settings(max_examples=80)
def test_any_text_has_an_intent_and_finite_figures(text: str) -> None:
    seen = Seen(text)
    assert seen.intent in INTENTS
    assert all(0.0 <= value < 30.0 for value in figures(seen))


@pytest.mark.parametrize(
    "hostile", ["(" * 16_384, "9" * 16_384, "one " * 4_096, "a-" * 8_192, "1," * 8_192, "A) x " * 3_000]
)
def test_a_hostile_question_is_seen_without_trouble(hostile: str) -> None:
    assert all(value < 30.0 for value in figures(Seen(hostile)))
    assert Seen(hostile).intent in INTENTS
