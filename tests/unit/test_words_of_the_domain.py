"""Strategies and programs have no words of their own: each is played in Greek, and reads and writes nothing else."""

import ast
import random
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import conclave.domain
from conclave.domain.programs import PROGRAMS, Speak
from conclave.domain.strategies import STRATEGIES
from conclave.domain.thought import Conclude, Thought
from conclave.prompts.wording import WORDS, Reads
from conclave.testing.strategies import verdict
from schemas.values import Ask, Turn, Wording

# Greek, as nothing in the code is: each word is told from all that the domain might say of its own. Reasons are names in events.
_SIGN = {name: "αβγδεζηθικλμνξοπ"[place] for place, name in enumerate(WORDS)}
_GREEK = Wording(
    **{
        name: _SIGN[name] + "".join(f"(?P<{group}>[0-9]+|.ς+)" for group in (*word.groups, *word.optional))
        if isinstance(word, Reads)
        else _SIGN[name] + "".join(f"{{{field}}}" for field in word.fields if field != "reason")
        for name, word in WORDS.items()
    }
)
_TEXTS = (*(f"{sign}" for sign in _SIGN.values()), f"{_SIGN['part']}1ρςς", f"{_SIGN['blames']}1", "12", "χψ", "ω=3")


@given(seed=st.integers(0, 2**32))
@pytest.mark.parametrize("name", STRATEGIES)
def test_what_a_strategy_tells_a_model_is_said_in_the_words_of_its_form_alone(name: str, seed: int) -> None:
    rng, strategy = random.Random(seed), STRATEGIES[name]
    asks = {ask: Ask(form="any", wording=_GREEK) for ask in strategy.asks}
    thought = Thought("χ;", {name: rng.choice((0.0, 3.0)) for name in strategy.params}, (), {}, False, asks)
    for _ in range(8):
        move = strategy.think(thought)
        if isinstance(move, Conclude):
            return
        for step in move.steps:
            assert _latin(step.fields) == {}
        new = {step.index: verdict(step.index, (rng.choice((None, *_TEXTS)), 0.4)) for step in move.steps}
        thought = Thought(
            thought.question, thought.params, (*thought.steps, *move.steps), {**thought.verdicts, **new}, False, asks
        )


@given(seed=st.integers(0, 2**32))
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_a_program_tells_a_model_is_said_in_the_words_of_its_forms_alone(name: str, seed: int) -> None:
    rng = random.Random(seed)
    turns: list[Turn] = []
    ask = Ask(form="any", max_turns=9, wording=_GREEK)
    while isinstance(move := PROGRAMS[name].next_turn({"question": "χ;"}, turns, ask), Speak):
        assert _latin(move.fields) == {}
        turns.append(Turn(form=move.form, text=rng.choice(_TEXTS), answer=rng.choice((None, *_TEXTS))))


def _latin(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields with a word in Latin letters: the label of a candidate is none."""
    return {name: text for name, text in fields.items() if re.search("[A-Za-z]{2}", text)}


@pytest.mark.parametrize("folder", ["strategies", "programs"])
def test_no_strategy_and_no_program_reads_a_model_s_words_by_a_pattern_of_its_own(folder: str) -> None:
    """A pattern of digits is none of words."""
    found = []
    for file in (Path(conclave.domain.__file__).parent / folder).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re."):
                found += [ast.unparse(each) for each in node.args if any(map(str.isalpha, ast.unparse(each)[2:-1]))]
    assert found == []
