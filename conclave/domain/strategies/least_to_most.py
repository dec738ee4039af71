"""A question split into parts, each asked once those that it needs are answered: least-to-most, arXiv 2205.10625.

The split is step 0's answer, a line a part:

    1: How many apples does Tom have?
    2 needs 1: Ann takes 3 of #1. How many are left?

The last part's answer is the request's. Where a split can't be followed, the question is asked whole.
"""

import re
from dataclasses import dataclass
from math import prod

from conclave.domain.params import Param, whole_number
from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest
from schemas.values import MAX_QUESTION_CHARS, Step

_PARAMS = {"max_parts": Param(8, 1, 62, is_whole=True)}
_PART = re.compile(r"(?P<number>[0-9]{1,3})(?: needs (?P<needs>[0-9]{1,3}(?: [0-9]{1,3})*))?: (?P<text>\S.*)")
_WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a split: what it asks, and the numbers of the earlier parts whose answers it needs."""

    text: str
    needs: tuple[int, ...]


def think(thought: Thought) -> Grow | Conclude:
    """The split, then its parts as soon as they can be asked, then the end on the last; or the whole question."""
    if not thought.steps and not thought.must_end:
        return Grow((Step(index=0, ask="decompose", fields={"question": thought.question}, mark="split"),))
    whole = [step.index for step in thought.steps if step.mark == _WHOLE]
    if whole:
        return surest(thought, among=whole)
    parts = parts_of(thought.answer(0) or "")
    asked = {number: step.index for step in thought.steps for number in parts if step.mark == f"#{number}"}
    known = {number: answer for number, index in asked.items() if (answer := thought.answer(index))}
    if parts and (last := list(parts)[-1]) in known:
        return Conclude(asked[last], prod(thought.verdicts[asked[number]].confidence for number in known))
    if thought.must_end:
        return Conclude(None)
    obstacle = _obstacle(thought, parts, unanswered=sorted(asked.keys() - known.keys()))
    return _whole(thought, obstacle) if obstacle else _next_parts(thought, parts, asked, known)


def parts_of(text: str) -> dict[int, Part]:
    """The parts that a split names, by number: its first lines that are parts, one after the other.

    A part needs earlier ones only; what else it says that it needs is not there.
    """
    parts: dict[int, Part] = {}
    for line in text.splitlines():
        match = _PART.fullmatch(line.strip())
        if match is None and not parts:
            continue  # some models greet before they begin
        if match is None or int(match["number"]) in parts:
            break
        needs = {int(each) for each in (match["needs"] or "").split()}
        parts[int(match["number"])] = Part(match["text"], tuple(sorted(needs & parts.keys())))
    return parts


def _obstacle(thought: Thought, parts: dict[int, Part], unanswered: list[int]) -> str | None:
    """Why a split can't be followed; None when it can."""
    most = whole_number(thought.params, _PARAMS, "max_parts")
    if not parts:
        return "there is no split"
    if len(parts) > most:
        return f"the split has {len(parts)} parts, more than {most}"
    return f"part #{unanswered[0]} came to no answer" if unanswered else None


def _whole(thought: Thought, why: str) -> Grow:
    index, fields = len(thought.steps), {"question": thought.question}
    return Grow((Step(index=index, ask=_WHOLE, fields=fields, mark=_WHOLE, depends_on=(0,), why=why),))


def _next_parts(thought: Thought, parts: dict[int, Part], asked: dict[int, int], known: dict[int, str]) -> Grow:
    """Every part that is not asked yet and whose needs are known; a part needs earlier ones, so there is one."""
    ready = [
        number for number, part in parts.items() if number not in asked and all(each in known for each in part.needs)
    ]
    steps = (
        Step(
            index=len(thought.steps) + place,
            ask="sub_question",
            fields=_fields(parts, number, known),
            mark=f"#{number}",
            depends_on=tuple(asked[each] for each in parts[number].needs) or (0,),
        )
        for place, number in enumerate(ready)
    )
    return Grow(tuple(steps))


def _fields(parts: dict[int, Part], number: int, known: dict[int, str]) -> dict[str, str]:
    """The part's question and, if it needs any, what earlier ones came to: `#1 = 36`, and in full `#1: How many … = 36`."""
    needs = parts[number].needs
    told = {
        "earlier": "\n".join(f"#{each} = {known[each]}" for each in needs),
        "earlier_in_full": "\n".join(f"#{each}: {parts[each].text} = {known[each]}" for each in needs),
    }
    return {"question": parts[number].text} | {name: text[:MAX_QUESTION_CHARS] for name, text in told.items() if text}


STRATEGY = Strategy(
    think,
    asks={"decompose": ("question",), "sub_question": ("question",), _WHOLE: ("question",)},
    params=_PARAMS,
)
