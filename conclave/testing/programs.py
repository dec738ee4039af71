"""Path programs, played with what a model and its tools might say, and the law that every program keeps."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conclave.domain.programs import End, Program, Speak
from conclave.domain.programs.moves import Asked
from conclave.prompts import PromptSet
from schemas.values import Call, Turn

FIELDS = {"question": "How many?"}

Said = tuple[str, str | None, Call | None]  # a text, the answer that is found in it, and the call
_TEXTS = ("", "Answer: 5", "calculate(17-6", "right", "Step 1 is wrong", "{question}", "\n", "\0", "9" * 5_000)
_ANSWERS = (None, "right", "95", "0.95", "nan", "-1", "1e999", "٣", "")
_CALLS = (None, Call("calculator", "17-6"), Call("other", ""))
_MANY = 130  # more than any path may say: 64 turns, and as many answers of tools


@dataclass(frozen=True, slots=True)
class Played:
    """A path's end, its turns, and what was asked of the model."""

    end: End
    turns: tuple[Turn, ...]
    asked: tuple[Speak, ...]


def played(program: Program, ask: Asked, said: Sequence[Said], fields: Mapping[str, str] = FIELDS) -> Played:
    """The path on which model and tools say `said`, one after the other. Raises: AssertionError when it doesn't end."""
    turns: list[Turn] = []
    asked: list[Speak] = []
    for text, answer, call in said:
        move = program.next_turn(fields, turns, ask)
        assert move == program.next_turn(fields, tuple(turns), ask), "a program depends on the turns alone"
        match move:
            case End():
                return Played(move, tuple(turns), tuple(asked))
            case Speak():
                asked.append(move)
                turns.append(Turn(form=move.form, text=text, answer=answer, call=call))
            case Call():
                turns.append(Turn(form=turns[-1].form, text=f"={text}", answer=text, tool=move.tool))
    raise AssertionError(f"the program does not end within {len(said)} turns")


def check(program: Program, ask: Asked, prompt_set: PromptSet, rng: random.Random) -> None:
    """Plays the program with anything at all. Raises: AssertionError when it breaks its law.

    It ends within the turns of its ask, asks only forms that its ask or its row names, with fields that they have, and
    answers with what one of its turns answered.
    """
    said = [(rng.choice(_TEXTS), rng.choice(_ANSWERS), rng.choice(_CALLS)) for _ in range(_MANY)]
    path = played(program, ask, said)
    assert 1 <= len(path.asked) <= ask.max_turns, f"{len(path.asked)} turns of {ask.max_turns}"
    for speak in path.asked:
        assert speak.form in (ask.form, *program.forms), f"its row does not name {speak.form}"
        prompt_set.form(speak.form).render(speak.fields, speak.so_far)
    assert 0 <= path.end.turn < len(path.turns)
    assert path.end.answer in (path.turns[path.end.turn].answer, None), f"no turn answered {path.end.answer!r}"
    assert path.end.probability is None or 0 <= path.end.probability <= 1
