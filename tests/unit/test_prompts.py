"""Prompt sets: data that must fit what asks for it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import prompts
from conclave.errors import Misconfigured
from conclave.prompts import FIELDS, UnknownPrompt
from conclave.prompts.current import CurrentPrompts
from conclave.prompts.reading import read_set
from conclave.tools import TOOLS
from schemas.values import Call

SETS = [prompts.load(name) for name in prompts.names()]
FORMS = [pytest.param(form, id=f"{each.name}-{form.name}") for each in SETS for form in each.forms.values()]


def test_the_sets_ask_in_the_same_forms_with_the_fields_that_a_strategy_has() -> None:
    trained_for, instructed = prompts.load("reasoner-v3").forms, prompts.load("instruct-v1").forms
    assert set(instructed) - {
        "reconsider",
        "react",
        "look_up",
        "select",
        "synthesise",
        "structured",
        "argument",
    } == set(trained_for)
    for name, form in trained_for.items():
        assert instructed[name].produces is form.produces
        assert set(form.fields) | set(instructed[name].fields) <= set(FIELDS)


@pytest.mark.parametrize("form", FORMS)
@given(text=st.text(max_size=200))
def test_a_form_reads_any_text_without_failing(form: prompts.Form, text: str) -> None:
    answer = form.extract(text)
    assert answer is None or answer.strip() == answer != ""


@pytest.mark.parametrize("form", FORMS)
def test_a_field_that_is_missing_is_named(form: prompts.Form) -> None:
    with pytest.raises(UnknownPrompt) as raised:
        form.render({})
    assert raised.value.name == next(name for name in form.fields if name not in form.otherwise)


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
    assert prompts.load(name).form("criticise").extract(text) == answer


def test_an_unknown_set_or_form_is_named_with_those_there_are() -> None:
    with pytest.raises(UnknownPrompt, match="reasoner-v3"):
        prompts.load("reasoner-v0")
    with pytest.raises(UnknownPrompt, match="chain_of_thought"):
        SETS[0].form("shout")


@pytest.mark.parametrize(
    ("name", "form", "text", "answer"),
    [
        ("reasoner-v3", "criticise", "1+1=2 ok\nright", None),
        ("reasoner-v3", "criticise", "2+2=5 no\nStep 1 is wrong: 2+2=5", "Step 1 is wrong: 2+2=5"),
        ("instruct-v1", "criticise", "All holds.\n**Right**", None),
        ("reasoner-v3", "confidence", "95", "0.95"),
        ("reasoner-v3", "confidence", "5", "0.05"),
        ("instruct-v1", "confidence", "I would say 100", "1"),
        ("instruct-v1", "confidence", "about 250", None),
        ("instruct-v1", "confidence", "sure", None),
        ("reasoner-v3", "tool", "calculate(1+1)=2\nAnswer: 2", "2"),
    ],
)
def test_an_answer_means_what_its_form_produces(name: str, form: str, text: str, answer: str | None) -> None:
    assert prompts.load(name).form(form).read(text).answer == answer


@pytest.mark.parametrize(
    ("name", "text", "argument", "goes_on"),
    [
        ("reasoner-v3", "calculate(17-6", "17-6", "calculate(17-6)=11\n"),
        ("reasoner-v3", "calculate(1+1)=2\ncalculate(17/5", "17/5", "calculate(1+1)=2\ncalculate(17/5)=3\n"),
        ("instruct-v1", "So <calculate>2*(3+4)", "2*(3+4)", "So <calculate>2*(3+4)</calculate> = 14\n"),
        ("instruct-v1", "<calculate>17/5", "17/5", "<calculate>17/5</calculate> = 3.4\n"),
    ],
)
def test_a_call_is_found_and_its_result_written_as_the_form_says(
    name: str, text: str, argument: str, goes_on: str
) -> None:
    form = prompts.load(name).form("tool")
    call = form.read(text).call
    assert form.tool_use is not None
    assert call == Call(form.tool_use.tools[0], argument)
    assert text + form.tool_use.observation(TOOLS[call.tool](call.argument)) == goes_on


@pytest.mark.parametrize("text", ["Answer: 2", "calculate(1+1)", "calculate((1+1", "calculate(" + "1" * 65, ""])
def test_what_is_no_call_at_the_end_of_a_text_calls_nothing(text: str) -> None:
    assert prompts.load("reasoner-v3").form("tool").read(text).call is None


def test_a_call_is_looked_for_in_what_was_said_last_and_an_answer_in_all_of_it() -> None:
    form = prompts.load("reasoner-v3").form("tool")
    assert form.read("\nAnswer: 2", so_far="calculate(1+1").call is None
    assert form.read("2", so_far="Answer: ").answer == "2"


def test_an_answer_is_an_option_by_the_question_that_is_asked() -> None:
    form = prompts.load("instruct-v1").form("direct")
    for question, answer in (("Where? A. Rome B. Paris", "B"), ("Who found it?", "B. Paris")):
        assert form.read("Answer: B. Paris", fields={"question": question}).answer == answer


def test_a_pattern_may_set_its_own_flags(tmp_path: Path) -> None:
    text = _TOOL_KEYS.replace("c(?P<argument>.)", "(?s)C(?P<argument>.*)$")
    (tmp_path / "mine.toml").write_text(f"[forms.a]\n{text}")
    form = prompts.available(tmp_path, tools=TOOLS)["mine"].form("a")
    assert form.read("C1+\n1").call == Call("calculator", "1+\n1")


def test_a_path_is_gone_on_from_what_it_said() -> None:
    rendered = prompts.load("reasoner-v3").form("tool").render({"question": "q"}, so_far="calculate(1+1)=2\n")
    assert [message.role for message in rendered.messages] == ["user", "assistant"]
    assert rendered.messages[-1].content == "calculate(1+1)=2\n"


def test_a_field_that_is_not_given_reads_as_its_form_says() -> None:
    asked = prompts.load("reasoner-v3").form("sub_question")
    assert asked.render({"question": "q"}).messages[-1].content == "Known: nothing\nq\nWork it out."


def test_an_operators_sets_stand_beside_those_that_ship(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[forms.direct]\nuser = "{question}"\nanswer = ["(.+)"]\n')
    sets = prompts.available(tmp_path, tools=TOOLS)
    assert set(sets) == {*prompts.names(), "mine"}
    assert sets["mine"].form("direct").render({"question": "Why?"}).messages[-1].content == "Why?"
    assert prompts.available(None, tools=TOOLS) == prompts.shipped()


_TOOL_KEYS = 'user = "{question}"\nstop = [")"]\ntool = "calculator"\ncall = "c(?P<argument>.)"\nobserve = "{result}"\n'
_BAD_SETS = [
    ("bad.toml", "forms = ", ["bad.toml", "TOML"]),
    ("bad.toml", "forms = " + "[" * 10_000, ["bad.toml", "TOML"]),
    ("bad.toml", "x = " + "9" * 5_000, ["bad.toml", "TOML"]),
    ("bad.toml", "[forms.a]\n" + ".".join("x" * 10_000) + " = 1", ["bad.toml", "TOML", "nested"]),
    ("bad.toml", "#" * 2_000_000, ["bad.toml", "more than 1000000 bytes"]),
    ("bad.toml", '[forms.a]\nuser = "{question}"\nproduces = "probability"\nout_of = inf', ["[forms.a] out_of"]),
    ("bad.toml", "", ["bad.toml", "[forms.<name>]"]),
    ("bad.toml", "other = 1", ["[forms.<name>]", "other"]),
    ("bad.toml", "[forms]\ntool = 3", ["[forms.tool]", "a table"]),
    ("Bad Name.toml", '[forms.a]\nuser = "x"', ["Bad Name.toml", "lower-case"]),
    ("reasoner-v3.toml", '[forms.a]\nuser = "{question}"', ["reasoner-v3.toml", "not replaced"]),
    ("bad.toml", '[forms."A b"]\nuser = "{question}"', ["A b", "lower-case"]),
    ("bad.toml", "[forms.a]\nstop = []", ["[forms.a]", "user"]),
    ("bad.toml", "[forms.a]\nuser = 3", ["[forms.a] user", "`str`", "3"]),
    ("bad.toml", '[forms.a]\nuser = "{question}"\nanswr = ["x"]', ["[forms.a] answr", "answer"]),
    ("bad.toml", '[forms.a]\nuser = "{qestion}"', ["[forms.a] user", "qestion", "{question}"]),
    ("bad.toml", '[forms.a]\nuser = "{question.__class__}"', ["[forms.a] user", "__class__"]),
    ("bad.toml", '[forms.a]\nuser = "{question!r}"', ["[forms.a] user", "question!r"]),
    ("bad.toml", '[forms.a]\nuser = "{question"', ["[forms.a] user", "braces doubled"]),
    ("bad.toml", '[forms.a]\nuser = "{}"', ["[forms.a] user", "{}"]),
    ("bad.toml", '[forms.a]\nuser = "{question}"\nanswer = ["("]', ["[forms.a] answer", "regular expression", "("]),
    ("bad.toml", '[forms.a]\nuser = "{question}"\nstop = ["", ")"]', ["[forms.a] stop", "length >= 1"]),
    ("bad.toml", '[forms.a]\nuser = "{question}"\notherwise = {path = "x"}', ["[forms.a] otherwise", "path", "question"]),
    ("bad.toml", '[forms.a]\nuser = "{question}"\nproduces = "poems"', ["[forms.a] produces", "poems"]),
    ("bad.toml", '[forms.a]\nuser = "{question}"\nproduces = "criticism"', ["[forms.a] satisfied", "nothing"]),
    ("bad.toml", '[forms.a]\nuser = "{question}"\nout_of = 100', ["[forms.a] out_of", "probability"]),
    ("bad.toml", '[forms.a]\nuser = "{question}"\ntool = "calculator"', ["[forms.a] call", "[forms.a] observe", "stop"]),
    ("bad.toml", "[forms.a]\n" + _TOOL_KEYS.replace('"calculator"', '"abacus"'), ["[forms.a] tool", "abacus", "calculator"]),
    ("bad.toml", "[forms.a]\n" + _TOOL_KEYS.replace("?P<argument>", ""), ["[forms.a] call", "(?P<argument>"]),
    ("bad.toml", "[forms.a]\n" + _TOOL_KEYS.replace("{result}", "so"), ["[forms.a] observe", "{result}"]),
    ("bad.toml", '[forms.a]\nuser = "{x}"\n[forms.b]\nuser = "{y}"', ["[forms.a] user", "[forms.b] user"]),
]  # fmt: skip


@pytest.mark.parametrize(("file", "text", "named"), _BAD_SETS, ids=range(len(_BAD_SETS)))
def test_a_bad_set_is_refused_with_file_form_key_and_what_was_expected(
    tmp_path: Path, file: str, text: str, named: list[str]
) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(Misconfigured) as raised:
        prompts.available(tmp_path, tools=TOOLS)
    assert [each for each in (*named, file) if each not in str(raised.value)] == []


@given(text=st.text(max_size=200))
def test_any_text_is_a_prompt_set_or_says_what_is_wrong(text: str) -> None:
    found, faults = read_set("any", "any.toml", text, TOOLS)
    assert found.forms or faults


def test_a_folder_that_is_not_there_and_a_file_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no folder"):
        prompts.available(tmp_path / "none", tools=TOOLS)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match=r"bytes\.toml"):
        prompts.available(tmp_path, tools=TOOLS)


_SOUND = '[forms.direct]\nuser = "{question}"\nanswer = ["(.+)"]\n'


def test_a_running_service_takes_over_prompt_sets_that_changed_and_keeps_the_last_good_ones(tmp_path: Path) -> None:
    current = CurrentPrompts(tmp_path, tools=TOOLS)
    (tmp_path / "mine.toml").write_text(_SOUND)
    current.refresh()
    before = current.find("mine")
    number = len(prompts.names()) + 1
    assert current.status() == {"prompt_sets": number}
    (tmp_path / "mine.toml").write_text(_SOUND.replace("{question}", "{qestion}"))
    (tmp_path / "other.toml").write_text(_SOUND)
    current.refresh()
    assert current.find("mine") is before
    assert "other" not in current.sets, "refused as a whole"
    told = str(current.status()["prompt_sets_refused"])
    assert [each for each in ("mine.toml", "[forms.direct] user", "{question}", "qestion") if each not in told] == []
    (tmp_path / "mine.toml").write_text(_SOUND.replace("{question}", "So: {question}"))
    current.refresh()
    assert current.find("mine").form("direct").render({"question": "1?"}).messages[-1].content == "So: 1?"
    assert current.status() == {"prompt_sets": number + 1}


def test_a_service_starts_with_no_wrong_prompt_set(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("forms = 1")
    with pytest.raises(Misconfigured, match=r"mine\.toml"):
        CurrentPrompts(tmp_path, tools=TOOLS)


def test_a_set_that_is_gone_is_still_there_for_paths_under_way(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(_SOUND)
    current = CurrentPrompts(tmp_path, tools=TOOLS)
    (tmp_path / "mine.toml").unlink()
    current.refresh()
    assert "mine" not in current.sets
    assert current.find("mine").forms
    with pytest.raises(prompts.UnknownPrompt):
        current.find("none")


def test_the_sets_that_ship_call_tools_that_there_are() -> None:
    used = {tool for each in SETS for form in each.forms.values() if form.tool_use for tool in form.tool_use.tools}
    assert used == {"calculator", "whole_calculator", "units", "dates", "expression", "documents"} <= set(TOOLS)
