"""Follow-up questions, one at a time, until the model has none: self-ask, arXiv 2210.03350.

Unlike a split (least_to_most) the questions are not known beforehand: each is asked for once the one before is answered. A
follow-up is a question, or a line of a split such as `2 needs 1: Ann takes 3 of #1. How many are left?`.
"""

import re
from dataclasses import dataclass
from math import prod

from conclave.domain.params import Param, whole_number
from conclave.domain.strategies.least_to_most import PART
from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest
from schemas.values import MAX_QUESTION_CHARS, Step

# With `ends_whole` the question itself is put at the end, beside what was found; else the last follow-up's answer counts.
_PARAMS = {"follow_ups": Param(8, 1, 31, is_whole=True), "ends_whole": Param(0, 0, 1, is_whole=True)}
_FOLLOW_UP, _SUB_QUESTION, _WHOLE = "follow_up", "sub_question", "whole"
_NONE = re.compile(
    r"\W*(none|nothing|done|no|(final )?answer\b.*"
    r"|no (more |further )?(follow[- ]?ups?|questions?|sub-?questions?)( (are|is) (needed|left))?)\W*"
)


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A question as it was put: its number in the split, those it needs, the step that asks it, and what that came to."""

    number: int
    needs: tuple[int, ...]
    text: str
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
    why = _obstacle(text, asked, whole_number(thought.params, _PARAMS, "follow_ups"))
    if why is None:
        return _sub_question(text, asked, index=len(thought.steps))
    if asked and not whole_number(thought.params, _PARAMS, "ends_whole"):
        return _last(thought, asked)
    return _whole(thought, asked, why)


def _asked(thought: Thought) -> list[FollowUp]:
    """The follow-ups that were put so far, in order."""
    found: list[FollowUp] = []
    for step in thought.steps:
        if step.ask == _SUB_QUESTION and step.depends_on:
            line = _first_line(thought.answer(step.depends_on[0]) or step.fields.get("question", ""))
            number, needs, text = _read(line, found)
            found.append(FollowUp(number, needs, text, line, step.index, thought.answer(step.index)))
    return found


def _first_line(text: str) -> str:
    """The first line that says something: a model may go on about its question."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _read(line: str, asked: list[FollowUp]) -> tuple[int, tuple[int, ...], str]:
    """A follow-up's number, the earlier ones that it needs (all of them where it does not say), and its question."""
    known = [each.number for each in asked]
    match = PART.fullmatch(line)
    if match is None or int(match["number"]) in known:
        return max(known, default=0) + 1, tuple(known), line
    needs = {int(each) for each in (match["needs"] or "").split()}
    return int(match["number"]), tuple(each for each in known if each in needs), match["text"]


def _obstacle(text: str, asked: list[FollowUp], most: int) -> str | None:
    """Why a follow-up is not put; None when it is."""
    if not text or _NONE.fullmatch(text.casefold()):
        return "no follow-up is left"
    if not any(character.isalnum() for character in text):
        return "the follow-up asks nothing"
    if len(asked) >= most:
        return f"{most} follow-ups were put"
    said = _read(text, asked)[2].casefold().split()
    repeated = next((each for each in asked if each.text.casefold().split() == said), None)
    return f"the follow-up repeats #{repeated.number}" if repeated else None


def _follow_up(thought: Thought, asked: list[FollowUp]) -> Grow:
    fields = {"question": thought.question, **_told(asked)}
    if asked:
        fields["asked"] = "\n".join(each.line for each in asked)[-MAX_QUESTION_CHARS:]
    index = len(thought.steps)
    leaning = (asked[-1].step_index,) if asked else ()
    return Grow(
        (Step(index=index, ask=_FOLLOW_UP, fields=fields, mark=f"follow-up {len(asked) + 1}", depends_on=leaning),)
    )


def _sub_question(line: str, asked: list[FollowUp], *, index: int) -> Grow:
    number, needs, text = _read(line, asked)
    told = _told([each for each in asked if each.number in needs])
    leaning = (index - 1, *(each.step_index for each in asked if each.number in needs))
    fields = {"question": text, **told}
    return Grow((Step(index=index, ask=_SUB_QUESTION, fields=fields, mark=f"#{number}", depends_on=leaning),))


def _whole(thought: Thought, asked: list[FollowUp], why: str) -> Grow:
    known = [each for each in asked if each.answer]
    leaning = tuple(each.step_index for each in known) or (len(thought.steps) - 1,)
    fields = {"question": thought.question, **_told(known)}
    step = Step(index=len(thought.steps), ask=_WHOLE, fields=fields, mark=_WHOLE, depends_on=leaning, why=why)
    return Grow((step,))


def _told(asked: list[FollowUp]) -> dict[str, str]:
    """What the follow-ups came to, short and in full, as least_to_most tells it; nothing where there are none."""
    told = {
        "earlier": "\n".join(f"#{each.number} = {each.answer}" for each in asked),
        "earlier_in_full": "\n".join(f"#{each.number}: {each.text} = {each.answer}" for each in asked),
    }
    return {name: text[:MAX_QUESTION_CHARS] for name, text in told.items() if text}


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
