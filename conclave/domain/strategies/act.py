"""Calls of a tool with an effect, one after the other, until the model has none to make; then the answer, told what they came to.

As ReAct (arXiv 2210.03629), between votes and not inside a path: what a call's argument is, is voted on, and each call is made
once, whatever is sampled. It needs an ask `act` with the program `external` (conclave.domain.external).
"""

from conclave.domain import external, wording
from conclave.domain.params import Param, whole_number
from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest
from schemas.values import MAX_QUESTION_CHARS, Step

_PARAMS = {"calls": Param(1, 1, 8, is_whole=True)}
_ARGUMENT, _ACT, _WHOLE = "argument", "act", "whole"


def think(thought: Thought) -> Grow | Conclude:
    """What the next call is, the call, in turn; then the question itself, told what all of them came to."""
    newest = thought.steps[-1] if thought.steps else None
    if thought.must_end or (newest is not None and newest.ask == _WHOLE):
        return surest(thought, among={step.index for step in thought.steps if step.ask == _WHOLE})
    if newest is None:
        return _argument(thought)
    if newest.ask == _ACT:
        most = whole_number(thought.params, _PARAMS, "calls")
        is_enough = len(_calls(thought)) >= most
        return _whole(thought, f"{most} calls were made" if most > 1 else "") if is_enough else _argument(thought)
    argument = (thought.answer(newest.index) or "").strip()
    made = [thought.steps[call].fields.get("argument", "") for call in _calls(thought)]
    if not argument or wording.is_said(thought.words(_ARGUMENT).no_call, argument):
        return _whole(thought, "there is no call to make")
    if argument in made:
        return _whole(thought, "the call was made before")
    fields = {"argument": argument[:MAX_QUESTION_CHARS]}
    mark = f"call {len(made) + 1}"
    return Grow((Step(index=len(thought.steps), ask=_ACT, fields=fields, mark=mark, depends_on=(newest.index,)),))


def _calls(thought: Thought) -> list[int]:
    return [step.index for step in thought.steps if step.ask == _ACT]


def _told(thought: Thought, ask: str) -> dict[str, str]:
    """What the calls came to, a line each in the words of the ask that is told; nothing where there are none."""
    words = thought.words(ask)
    lines = (
        external.told(thought.steps[call].fields.get("argument", ""), thought.verdicts[call], words)
        for call in _calls(thought)
        if call in thought.verdicts
    )
    text = "\n".join(lines)[:MAX_QUESTION_CHARS]
    return {"earlier": text, "earlier_in_full": text} if text else {}


def _argument(thought: Thought) -> Grow:
    fields = {"question": thought.question, **_told(thought, _ARGUMENT)}
    return Grow((Step(index=len(thought.steps), ask=_ARGUMENT, fields=fields, depends_on=tuple(_calls(thought)[-1:])),))


def _whole(thought: Thought, why: str) -> Grow:
    leaning = tuple(_calls(thought)) or (len(thought.steps) - 1,)
    fields = {"question": thought.question, **_told(thought, _WHOLE)}
    return Grow((Step(index=len(thought.steps), ask=_WHOLE, fields=fields, depends_on=leaning, why=why),))


STRATEGY = Strategy(think, asks={_ARGUMENT: ("question",), _ACT: ("argument",), _WHOLE: ("question",)}, params=_PARAMS)
