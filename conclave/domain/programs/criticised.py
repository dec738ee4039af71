"""A path that is criticised and tried again while its critic finds something wrong (Shinn et al. 2023, Reflexion).

Attempts and criticisms alternate; each attempt is told of all before it, what they came to and what was wrong with them. A
critic that is content gives no criticism: the answer of its turn is None. One that says the same of the same answer again is
getting nowhere, and the path ends.
"""

from collections.abc import Mapping, Sequence

from conclave.domain.programs.moves import Asked, End, Speak
from schemas.values import MAX_QUESTION_CHARS, Call, Turn, Wording

CRITICISE, RETRY = "criticise", "retry"


def next_turn(fields: Mapping[str, str], turns: Sequence[Turn], ask: Asked) -> Speak | Call | End:
    """Attempt, criticism, attempt, …; ends with the last attempt's answer. A criticism is asked for if it can be heeded."""
    if not turns:
        return Speak(ask.form, fields)
    is_criticism = len(turns) % 2 == 0
    tried = len(turns) - 1 - is_criticism
    attempt, criticism = turns[tried], turns[-1].answer if is_criticism else None
    if criticism is not None and len(turns) < ask.max_turns and not _is_stuck(turns):
        told = {"path": attempt.text, "criticism": criticism, "trials": _trials(turns, ask.words)}
        return Speak(RETRY, {**fields, **told})
    if is_criticism or len(turns) + 2 > ask.max_turns:
        return End(attempt.answer, turn=tried)
    return Speak(CRITICISE, {**fields, "path": attempt.text})


def _is_stuck(turns: Sequence[Turn]) -> bool:
    """True when an attempt before came to the same answer and had the same criticism."""
    said = [(attempt.answer, criticism.answer) for attempt, criticism in zip(turns[::2], turns[1::2], strict=False)]
    return said[-1] in said[:-1]


def _trials(turns: Sequence[Turn], words: Wording) -> str:
    """All attempts, what each came to and what its critic said, a line each; the newest where there is no room for all."""
    pairs = zip(turns[::2], turns[1::2], strict=False)
    told = (
        {"number": number, "answer": attempt.answer or words.no_answer, "criticism": criticism.answer or ""}
        for number, (attempt, criticism) in enumerate(pairs, 1)
    )
    lines = [words.trial.format_map(each).rstrip() for each in told]
    return "\n".join(lines)[-MAX_QUESTION_CHARS:]
