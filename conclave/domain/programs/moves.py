"""What a program may do next, and what it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from schemas.values import Call, Turn, Wording


class Asked(Protocol):
    """What a program needs to know of how its question is put."""

    @property
    def form(self) -> str:
        """The prompt form of the first turn."""
        ...

    @property
    def max_turns(self) -> int:
        """So many turns of the model at most, at least one; what tools answer is not counted."""
        ...

    @property
    def answer_schema(self) -> str:
        """The JSON Schema that the answer has to fit; "" for a short answer."""
        ...

    @property
    def words(self) -> Wording:
        """In what words forms are told things, and answer."""
        ...


class Speak(Struct, frozen=True):
    """The model speaks: to `form` filled with `fields`, going on from `so_far` where it has begun already."""

    form: str
    fields: Mapping[str, str]
    so_far: str = ""
    json_schema: str = ""  # that the engine holds what is said to; "": none


class End(Struct, frozen=True):
    """The path ends. `turn` is the index of the one that gave the answer; `probability` that it is right, if it was stated."""

    answer: str | None
    turn: int
    probability: float | None = None


NextTurn = Callable[[Mapping[str, str], Sequence[Turn], Asked], Speak | Call | End]


@dataclass(frozen=True, slots=True)
class Program:
    """A row of `PROGRAMS`. `forms` are those that it asks besides its ask's own; in fewer than `min_turns` it does nothing."""

    next_turn: NextTurn
    forms: tuple[str, ...] = ()
    min_turns: int = 1

    def go_on(self, fields: Mapping[str, str], turns: Sequence[Turn], ask: Asked) -> Speak | Call | End:
        """What comes next. A path whose model declines ends there, whatever the program: there is nothing to go on from."""
        if turns and turns[-1].is_declined:
            return End(None, turn=len(turns) - 1)
        return self.next_turn(fields, turns, ask)


def num_spoken(turns: Sequence[Turn]) -> int:
    """The turns that are the model's."""
    return sum(turn.tool is None for turn in turns)
