"""A path whose author is asked how sure it is (Kadavath et al. 2022, P(True))."""

from collections.abc import Mapping, Sequence

from conclave.domain.programs.moves import Asked, End, Speak
from schemas.values import Call, Turn

CONFIDENCE = "confidence"


def next_turn(fields: Mapping[str, str], turns: Sequence[Turn], ask: Asked) -> Speak | Call | End:
    """The question, then, if it was answered, how likely the answer is right."""
    if not turns:
        return Speak(ask.form, fields)
    attempt = turns[0]
    if len(turns) == 1 and attempt.answer is not None and ask.max_turns > 1:
        return Speak(CONFIDENCE, {**fields, "path": attempt.text})
    return End(attempt.answer, turn=0, probability=_probability(turns[1].answer) if len(turns) > 1 else None)


def _probability(text: str | None) -> float | None:
    """The number from 0 to 1 that a text writes; None if it writes none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None
