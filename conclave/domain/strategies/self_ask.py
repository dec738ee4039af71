"""Follow-up questions, one at a time, until the model has none: self-ask, arXiv 2210.03350.

Unlike a split (least_to_most) the questions are not known beforehand: each is asked for once the one before is answered. A
follow-up is a question, or a line of a split such as `2 needs 1: Ann takes 3 of #1. How many are left?`.
"""

from dataclasses import dataclass
from math import prod

from conclave.domain import wording
from conclave.domain.params import Param, whole_number
from conclave.domain.strategies.least_to_most import Part, part_of, told_of
from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest
from schemas.values import MAX_QUESTION_CHARS, Step, Wording

# With `ends_whole` the question itself is put at the end, beside what was found; else the last follow-up's answer counts.
_PARAMS = {"follow_ups": Param(8, 1, 31, is_whole=True), "ends_whole": Param(0, 0, 1, is_whole=True)}
_FOLLOW_UP, _SUB_QUESTION, _WHOLE = "follow_up", "sub_question", "whole"


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A question as it was put: a part of the split, the line that it was, the step that asks it, and what that came to."""

    part: Part
    line: str
    step_index: int
    answer: str | None


def think(thought: Thought) -> Grow | Conclude:
    """The next follow-up, or its answer, in turn; then the end."""
    asked = _asked(thought)
    whole = next((step.index for step in thought.steps if step.ask == _WHOLE), None)
    if whole is not None and thought.answer(whole):
        return surest(thought, among={whole})
    if thought.must_end or whole is not None:
        return _last(thought, asked)
    newest = thought.steps[-1] if thought.steps else None
    if newest is None or (newest.ask == _SUB_QUESTION and thought.answer(newest.index)):
        return _follow_up(thought, asked)
    if newest.ask == _SUB_QUESTION:
        return _whole(thought, asked, f"{newest.mark} came to no answer")
    text = _first_line(thought.answer(newest.index) or "")
    why = _obstacle(thought, text, asked, whole_number(thought.params, _PARAMS, "follow_ups"))
    if why is None:
        return _sub_question(thought, text, asked)
    if asked and not whole_number(thought.params, _PARAMS, "ends_whole"):
        return _last(thought, asked)
    return _whole(thought, asked, why)


def _asked(thought: Thought) -> list[FollowUp]:
    """The follow-ups that were put so far, in order."""
    found: list[FollowUp] = []
    for step in thought.steps:
        if step.ask == _SUB_QUESTION and step.depends_on:
            line = _first_line(thought.answer(step.depends_on[0]) or step.fields.get("question", ""))
            part = _read(line, found, thought.words(_FOLLOW_UP))
            found.append(FollowUp(part, line, step.index, thought.answer(step.index)))
    return found


def _first_line(text: str) -> str:
    """The first line that says something: a model may go on about its question."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _read(line: str, asked: list[FollowUp], words: Wording) -> Part:
    """A follow-up as a part of the split; it needs all earlier ones where it does not say which of them."""
    known = [each.part.number for each in asked]
    part = part_of(line, words)
    if part is None or part.number in known:
        return Part(max(known, default=0) + 1, line, tuple(known))
    return Part(part.number, part.text, tuple(each for each in known if each in part.needs))


def _obstacle(thought: Thought, text: str, asked: list[FollowUp], most: int) -> str | None:
    """Why a follow-up is not put; None when it is."""
    words = thought.words(_FOLLOW_UP)
    if not text or wording.is_said(words.no_follow_up, text):
        return "no follow-up is left"
    if not any(character.isalnum() for character in text):
        return "the follow-up asks nothing"
    if len(asked) >= most:
        return f"{most} follow-ups were put"
    said = _read(text, asked, words).text.casefold().split()
    repeated = next((each for each in asked if each.part.text.casefold().split() == said), None)
    return f"the follow-up repeats #{repeated.part.number}" if repeated else None


def _follow_up(thought: Thought, asked: list[FollowUp]) -> Grow:
    fields = {"question": thought.question, **_told(asked, thought.words(_FOLLOW_UP))}
    if asked:
        fields["asked"] = "\n".join(each.line for each in asked)[-MAX_QUESTION_CHARS:]
    index = len(thought.steps)
    leaning = (asked[-1].step_index,) if asked else ()
    return Grow(
        (Step(index=index, ask=_FOLLOW_UP, fields=fields, mark=f"follow-up {len(asked) + 1}", depends_on=leaning),)
    )


def _sub_question(thought: Thought, line: str, asked: list[FollowUp]) -> Grow:
    index, part = len(thought.steps), _read(line, asked, thought.words(_FOLLOW_UP))
    needed = [each for each in asked if each.part.number in part.needs]
    leaning = (index - 1, *(each.step_index for each in needed))
    fields = {"question": part.text, **_told(needed, thought.words(_SUB_QUESTION))}
    return Grow((Step(index=index, ask=_SUB_QUESTION, fields=fields, mark=f"#{part.number}", depends_on=leaning),))


def _whole(thought: Thought, asked: list[FollowUp], why: str) -> Grow:
    known = [each for each in asked if each.answer]
    leaning = tuple(each.step_index for each in known) or (len(thought.steps) - 1,)
    fields = {"question": thought.question, **_told(known, thought.words(_WHOLE))}
    step = Step(index=len(thought.steps), ask=_WHOLE, fields=fields, mark=_WHOLE, depends_on=leaning, why=why)
    return Grow((step,))


def _told(asked: list[FollowUp], words: Wording) -> dict[str, str]:
    """What the follow-ups came to, as least_to_most tells it; nothing where there are none."""
    return told_of([(each.part, each.answer or words.no_answer) for each in asked], words)


def _last(thought: Thought, asked: list[FollowUp]) -> Conclude:
    """The end on the newest follow-up that has an answer, as sure as the chain up to it."""
    known = [each for each in asked if each.answer]
    if not known:
        return Conclude(None)
    sure = prod(thought.verdicts[each.step_index].confidence for each in known)
    return Conclude(known[-1].step_index, sure)


STRATEGY = Strategy(
    think,
    asks={_FOLLOW_UP: ("question",), _SUB_QUESTION: ("question",), _WHOLE: ("question",)},
    params=_PARAMS,
)
