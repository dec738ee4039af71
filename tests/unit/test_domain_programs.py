"""Path programs end within their turns, whatever the model and the tools say."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import prompts
from conclave.domain.programs import PROGRAMS, End, Speak
from conclave.testing.programs import FIELDS, Said, check, played
from schemas.values import Ask, Call, Turn


def run(name: str, ask: Ask, said: Sequence[Said]) -> tuple[End, tuple[Turn, ...], tuple[Speak, ...]]:
    """The end of a path on which the model says `said`, with its turns and what was asked."""
    path = played(PROGRAMS[name], ask, said)
    return path.end, path.turns, path.asked


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("prompt_set", prompts.names())
@given(rng=st.randoms(use_true_random=False), max_turns=st.integers(1, 64))
def test_a_program_ends_within_its_turns_and_asks_only_what_its_prompt_set_has(
    name: str, prompt_set: str, rng: random.Random, max_turns: int
) -> None:
    form = "tool" if name == "tools" else "chain_of_thought"
    if not set(PROGRAMS[name].forms) <= set(prompts.load(prompt_set).forms):
        pytest.skip(f"{prompt_set} has not all that it asks")
    check(PROGRAMS[name], Ask(form=form, max_turns=max_turns), prompts.load(prompt_set), rng)


def test_a_path_of_one_turn_ends_with_its_answer() -> None:
    end, turns, asked = run("once", Ask(form="chain_of_thought"), [("1+1=2\nAnswer: 2", "2", None)] * 2)
    assert (end, len(turns), asked) == (End("2", turn=0), 1, (Speak("chain_of_thought", FIELDS),))


def test_a_path_with_tools_goes_on_from_all_that_was_said_and_put_in() -> None:
    call = Call("calculator", "17-6")
    end, turns, asked = run(
        "tools",
        Ask(form="tool", max_turns=3),
        [("calculate(17-6", None, call), (")=11\n", "11", None), ("Answer: 11", "11", None)] * 2,
    )
    assert [speak.so_far for speak in asked] == ["", "calculate(17-6=)=11\n"]
    assert [turn.tool for turn in turns] == [None, "calculator", None]
    assert end == End("11", turn=2)


def test_a_path_that_breaks_off_in_a_call_has_no_answer() -> None:
    end, turns, _ = run(
        "tools", Ask(form="tool", max_turns=2), [("Answer: 5. calculate(1+1", "5", Call("calculator", "1+1"))] * 9
    )
    assert (end.answer, len(turns)) == (None, 3)


def test_a_path_is_tried_again_while_its_critic_finds_something_wrong() -> None:
    first, wrong, second, content = ("a", "1", None), ("no", "Step 1", None), ("b", "2", None), ("fine", None, None)
    end, _, asked = run("criticised", Ask(form="chain_of_thought", max_turns=5), [first, wrong, second, content, first])
    assert [speak.form for speak in asked] == ["chain_of_thought", "criticise", "retry", "criticise"]
    assert asked[2].fields == {**FIELDS, "path": "a", "criticism": "Step 1", "trials": "1: came to 1. Step 1"}
    assert end == End("2", turn=2)


def test_a_trial_is_told_of_all_before_it_and_one_that_gets_nowhere_is_the_last() -> None:
    attempts = [("a", "1", None), ("no", "Step 1", None), ("b", "2", None), ("no", "Step 2", None)]
    end, _, asked = run("criticised", Ask(form="chain_of_thought", max_turns=9), [*attempts, *attempts[2:], *attempts])
    assert [speak.form for speak in asked] == ["chain_of_thought", "criticise", *["retry", "criticise"] * 2]
    assert asked[4].fields["trials"] == "1: came to 1. Step 1\n2: came to 2. Step 2"
    assert end == End("2", turn=4)


@pytest.mark.parametrize("said", ["7", "error: no"])
def test_a_path_that_makes_a_call_three_times_or_errs_three_times_is_cut(said: str) -> None:
    calls = [Call("calculator", f"1+{number if said != '7' else 1}") for number in range(9)]
    turns = [each for call in calls for each in ((f"c({call.argument}", None, call), (said, said, None))]
    end, path, _ = run("tools", Ask(form="tool", max_turns=9), turns)
    assert end.answer is None
    assert sum(turn.tool is None for turn in path) == 3


def test_a_sum_that_is_done_twice_is_no_loop() -> None:
    call = Call("calculator", "1+1")
    twice = [each for _ in range(2) for each in (("c(1+1", None, call), ("2", "2", None))]
    end, _, _ = run("tools", Ask(form="tool", max_turns=9), [*twice, ("Answer: 4", "4", None), ("never", None, None)])
    assert end.answer == "4"


@pytest.mark.parametrize(("max_turns", "forms"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5)])
def test_no_critic_is_asked_that_cannot_be_heeded(max_turns: int, forms: int) -> None:
    said = [("a", f"Step {number}", None) for number in range(9)]
    end, _, asked = run("criticised", Ask(form="chain_of_thought", max_turns=max_turns), said)
    assert len(asked) == forms
    assert end.turn == forms - 1


@pytest.mark.parametrize(
    ("stated", "probability"), [("0.95", 0.95), ("1", 1.0), ("95", None), ("nan", None), ("sure", None), (None, None)]
)
def test_a_path_may_say_how_sure_it_is(stated: str | None, probability: float | None) -> None:
    end, _, asked = run(
        "stated", Ask(form="chain_of_thought", max_turns=2), [("a", "7", None), ("b", stated, None), ("c", None, None)]
    )
    assert end == End("7", turn=0, probability=probability)
    assert asked[1].fields == {**FIELDS, "path": "a"}


def test_a_path_without_an_answer_is_not_asked_how_sure_it_is() -> None:
    end, _, asked = run("stated", Ask(form="chain_of_thought", max_turns=2), [("a", None, None)] * 3)
    assert (end.answer, len(asked)) == (None, 1)
