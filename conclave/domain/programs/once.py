"""A path of one turn."""

from collections.abc import Mapping, Sequence

from conclave.domain.programs.moves import Asked, End, Speak
from schemas.values import Call, Turn


def next_turn(fields: Mapping[str, str], turns: Sequence[Turn], ask: Asked) -> Speak | Call | End:
    """The question, then its end."""
    return End(turns[0].answer, turn=0) if turns else Speak(ask.form, fields)
