"""Routers: rules as data, and switches that stand until enough in a row speak against them."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from conclave.domain.routing import Rule, Streaks
from tests.routed_questions import EASY, routed


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ({}, True),
        ({"at_most": {"sentences": 2.0}}, True),
        ({"at_most": {"numbers": 1.0}}, False),
        ({"at_least": {"numbers": 2.0}, "intents": ("word_problem",)}, True),
        ({"intents": ("code", "choice")}, False),
        ({"any_of": ("apples", "how MANY")}, True),
        ({"any_of": ("nut",)}, False),
        ({"any_of": ("gets 4.",)}, True),
        ({"none_of": ("nuts",)}, False),
        ({"none_of": ("apples",)}, True),
        ({"tags": {"kind": "exam"}}, True),
        ({"tags": {"kind": "*"}}, True),
        ({"tags": {"kind": "homework"}}, False),
        ({"tags": {"other": "*"}}, False),
        ({"tenants": ("acme",)}, True),
        ({"tenants": ("other",)}, False),
        ({"max_difficulty": 1.0}, False),  # nobody knows how hard it is
    ],
)
def test_a_rule_holds_where_all_of_its_conditions_do(rule: dict[str, object], holds: bool) -> None:
    of = Rule(name="r", policy="direct", **rule)  # type: ignore[arg-type]
    choice = routed(of, tags={"kind": "exam"}, tenant="acme")
    assert (choice.policy, choice.rule) == (("direct", "r") if holds else (None, None))
    assert choice.reasons["rule"] == ("r" if holds else "none")


def test_the_first_rule_that_holds_decides_and_says_what_spoke_for_it() -> None:
    choice = routed(
        Rule(name="long", policy="default", at_least={"sentences": 9.0}),
        Rule(name="short", policy="direct", at_most={"words": 20.0}, any_of=("nuts",)),
        Rule(name="all", policy="single"),
    )
    assert (choice.policy, choice.reasons["because"]) == ("direct", "words 9 ≤ 20; says nuts")


def test_reasons_always_fit_into_an_event() -> None:
    rules = [
        Rule(name=f"rule{index}", policy="direct", in_a_row=2, any_of=("x " * 100 + str(index),)) for index in range(40)
    ]
    streaks = Streaks()
    *_, choice = (
        routed(*rules, question=("x " * 100 + "39 ") * 3, at=str(at), streaks=streaks, scope="s" * 256)
        for at in range(4)
    )
    assert choice.rule == "rule39"
    assert len(choice.reasons) <= 10
    assert all(len(text) <= 256 for text in choice.reasons.values())


SWITCH = Rule(name="busy", policy="direct", any_of=("nuts",), in_a_row=3)
OTHER = "What is it?"


def positions(questions: str, streaks: Streaks | None = None, **told: str) -> str:
    """Where the switch stands after each question: N mentions nuts."""
    streaks = streaks or Streaks()
    return "".join(
        "+" if routed(SWITCH, question=EASY if each == "N" else OTHER, at=f"{told}{place}", streaks=streaks, **told).policy  # type: ignore[arg-type]
        else "-"
        for place, each in enumerate(questions)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("questions", "expected"),
    [("NN.NNN", "-----+"), ("NNN..N..", "--++" + "++++"), ("NNN...N", "--+++--"), ("N.N.N.", "------")],
)
def test_a_switch_flips_only_after_so_many_in_a_row(questions: str, expected: str) -> None:
    assert positions(questions) == expected


def test_a_scope_is_never_counted_with_another_s() -> None:
    streaks = Streaks()
    assert positions("NNN", streaks, tenant="a") == "--+"
    assert positions("NN", streaks, tenant="b") == "--"


def test_a_question_read_again_is_not_counted_again() -> None:
    streaks = Streaks()
    for _ in range(5):
        assert routed(SWITCH, at="requests/0/1", streaks=streaks).policy is None


def test_the_scope_used_least_lately_is_forgotten() -> None:
    streaks = Streaks(max_scopes=2)
    assert positions("NNN", streaks, tenant="a") == "--+"
    for tenant in ("b", "c"):
        positions("N", streaks, tenant=tenant)
    assert routed(SWITCH, tenant="a", at="later", streaks=streaks).policy is None


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 5))
@settings(max_examples=60)
def test_a_switch_stands_where_the_last_run_long_enough_put_it(matches: list[bool], needed: int) -> None:
    streaks, expected = Streaks(), False
    for place, is_match in enumerate(matches):
        switch = streaks.count(("", ""), {"r": is_match}, {"r": needed}, str(place))["r"]
        run = matches[max(0, place + 1 - needed) : place + 1]
        if len(run) == needed and len(set(run)) == 1:
            expected = is_match
        assert switch.is_on is expected
