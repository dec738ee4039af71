"""Prompt sets: data that must fit what asks for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import prompts
from conclave.prompts import UnknownPrompt

SETS = [prompts.load(name) for name in prompts.names()]
FORMS = [pytest.param(form, id=f"{each.name}-{form.name}") for each in SETS for form in each.forms.values()]


def test_every_set_asks_in_the_same_forms_with_the_fields_that_a_strategy_has() -> None:
    known = {"question", "earlier", "earlier_in_full", "path", "criticism"}
    for each in SETS:
        assert set(each.forms) == set(SETS[0].forms)
        assert all(set(form.fields) <= known for form in each.forms.values())


@pytest.mark.parametrize("form", FORMS)
@given(text=st.text(max_size=200))
def test_a_form_reads_any_text_without_failing(form: prompts.Form, text: str) -> None:
    answer = form.extract_answer(text)
    assert answer is None or answer.strip() == answer != ""


@pytest.mark.parametrize("form", FORMS)
def test_a_field_that_is_missing_is_named(form: prompts.Form) -> None:
    with pytest.raises(UnknownPrompt) as raised:
        form.render({})
    assert raised.value.name == form.fields[0]


@given(text=st.text(max_size=100))
def test_braces_in_a_question_are_text(text: str) -> None:
    question = "{question} " + text + " {0}"
    rendered = prompts.load("reasoner-v3").form("direct").render({"question": question})
    assert rendered.messages[-1].content == f"{question}\nAnswer at once."


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("reasoner-v3", "1+1=2 ok\nright", "right"),
        ("reasoner-v3", "1+1=2 ok\n2+2=4 no\nStep 2 is wrong: 2+2=4", "Step 2 is wrong: 2+2=4"),
        ("reasoner-v3", "1+1=2 ok\n2+2", None),
        ("instruct-v1", "Step 1 holds.\n**right**", "right"),
        ("instruct-v1", "Let me see.\nStep 3 is wrong: 5+5 is 10.", "Step 3 is wrong: 5+5 is 10"),
        ("instruct-v1", "The right answer is 5", None),
    ],
)
def test_the_critics_verdict_is_its_last_line(name: str, text: str, answer: str | None) -> None:
    assert prompts.load(name).form("criticise").extract_answer(text) == answer


def test_an_unknown_set_or_form_is_named_with_those_there_are() -> None:
    with pytest.raises(UnknownPrompt, match="reasoner-v3"):
        prompts.load("reasoner-v0")
    with pytest.raises(UnknownPrompt, match="chain_of_thought"):
        SETS[0].form("shout")
