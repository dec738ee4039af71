"""A path that may call tools (Yao et al. 2023, ReAct): a call's result is put in where it stands, and the path goes on.

Thought, call, observation, until the model gives its answer. A path that is stuck is cut, without an answer: tools say the same
of the same argument, so a call made for the third time brings nothing new, and neither does a third error in a row.
"""

from collections.abc import Mapping, Sequence

from conclave.domain.programs.moves import Asked, End, Speak, num_spoken
from schemas.values import Call, Turn

_MOST_ALIKE = 3
_ERROR = "error:"


def next_turn(fields: Mapping[str, str], turns: Sequence[Turn], ask: Asked) -> Speak | Call | End:
    """The question, calls as the model makes them, and its end at the first turn without one; no answer if turns run out."""
    if not turns:
        return Speak(ask.form, fields)
    last = turns[-1]
    if last.tool is None and last.call is None:
        return End(last.answer, turn=len(turns) - 1)
    if num_spoken(turns) >= ask.max_turns or _is_stuck(turns):
        return End(None, turn=len(turns) - 1)  # the path breaks off in a call: what it said before is not its answer
    return last.call or Speak(ask.form, fields, so_far="".join(turn.text for turn in turns))


def _is_stuck(turns: Sequence[Turn]) -> bool:
    """True when the last call was made twice before, or the last observations are all errors."""
    calls = [turn.call for turn in turns if turn.call is not None]
    observed = [turn.answer or "" for turn in turns if turn.tool is not None][-_MOST_ALIKE:]
    are_errors = len(observed) == _MOST_ALIKE and all(each.startswith(_ERROR) for each in observed)
    return are_errors or (bool(calls) and calls.count(calls[-1]) >= _MOST_ALIKE)
