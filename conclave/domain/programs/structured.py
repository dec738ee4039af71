"""A path that thinks freely, and says its answer in a last turn that is held to the request's JSON Schema."""

from collections.abc import Mapping, Sequence

from conclave.domain.programs.moves import Asked, End, Speak
from schemas.values import Call, Turn

STRUCTURED = "structured"


def next_turn(fields: Mapping[str, str], turns: Sequence[Turn], ask: Asked) -> Speak | Call | End:
    """The question, then what was thought as JSON; a path without that second turn has no answer."""
    if not turns:
        return Speak(ask.form, fields)
    if len(turns) == 1 and ask.max_turns > 1:
        filled = {**fields, "path": turns[0].text, "schema": ask.answer_schema}
        return Speak(STRUCTURED, filled, json_schema=ask.answer_schema)
    return End(turns[1].answer if len(turns) > 1 else None, turn=len(turns) - 1)
