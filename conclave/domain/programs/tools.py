"""A path that may call tools (Yao et al. 2023, ReAct): a call's result is put in where it stands, and the path goes on."""

from collections.abc import Mapping, Sequence

from conclave.domain.programs.moves import Asked, End, Speak, num_spoken
from schemas.values import Call, Turn


def next_turn(fields: Mapping[str, str], turns: Sequence[Turn], ask: Asked) -> Speak | Call | End:
    """The question, calls as the model makes them, and its end at the first turn without one; no answer if turns run out."""
    if not turns:
        return Speak(ask.form, fields)
    last = turns[-1]
    if last.tool is None and last.call is None:
        return End(last.answer, turn=len(turns) - 1)
    if num_spoken(turns) >= ask.max_turns:
        return End(None, turn=len(turns) - 1)  # the path breaks off in a call: what it said before is not its answer
    return last.call or Speak(ask.form, fields, so_far="".join(turn.text for turn in turns))
