"""A path that is criticised and tried again while its critic finds something wrong (Shinn et al. 2023, Reflexion).

Attempts and criticisms alternate. A critic that is content gives no criticism: the answer of its turn is None.
"""

from collections.abc import Mapping, Sequence

from conclave.domain.programs.moves import Asked, End, Speak
from schemas.values import Call, Turn

CRITICISE, RETRY = "criticise", "retry"


def next_turn(fields: Mapping[str, str], turns: Sequence[Turn], ask: Asked) -> Speak | Call | End:
    """Attempt, criticism, attempt, …; ends with the last attempt's answer. A criticism is asked for if it can be heeded."""
    if not turns:
        return Speak(ask.form, fields)
    is_criticism = len(turns) % 2 == 0
    tried = len(turns) - 1 - is_criticism
    attempt, criticism = turns[tried], turns[-1].answer if is_criticism else None
    if criticism is not None and len(turns) < ask.max_turns:
        return Speak(RETRY, {**fields, "path": attempt.text, "criticism": criticism})
    if is_criticism or len(turns) + 2 > ask.max_turns:
        return End(attempt.answer, turn=tried)
    return Speak(CRITICISE, {**fields, "path": attempt.text})
