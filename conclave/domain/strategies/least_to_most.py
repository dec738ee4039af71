"""A question split into parts, each asked once those that it needs are answered: least-to-most, arXiv 2205.10625.

The split is step 0's answer, a line a part:

    1: How many apples does Tom have?
    2 needs 1: Ann takes 3 of #1. How many are left?

Parts that need nothing open are asked together. The last line's answer is the request's. Where a split can't be followed, the
question is asked whole, and `why` says what was wrong with it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from conclave.domain.params import Param, whole_number
from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest
from schemas.values import MAX_QUESTION_CHARS, Step

_PARAMS = {"max_parts": Param(8, 1, 62, is_whole=True)}
PART = re.compile(r"(?P<number>[0-9]{1,3})(?: needs (?P<needs>[0-9]{1,3}(?: [0-9]{1,3})*))?: (?P<text>\S.*)")
_WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a split: what it asks, and the numbers of the parts whose answers it needs."""

    text: str
    needs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """The parts that a text names, by number and in its order, and why they can't be followed; None when they can."""

    parts: Mapping[int, Part]
    fault: str | None


def think(thought: Thought) -> Grow | Conclude:
    """The split, then its parts as soon as they can be asked, then the end on the last; or the whole question."""
    if not thought.steps and not thought.must_end:
        return Grow((Step(index=0, ask="decompose", fields={"question": thought.question}, mark="split"),))
    whole = [step.index for step in thought.steps if step.mark == _WHOLE]
    if whole:
        return surest(thought, among=whole)
    split = split_of(thought.answer(0) or "")
    parts = split.parts
    asked = {number: step.index for step in thought.steps for number in parts if step.mark == f"#{number}"}
    known = {number: answer for number, index in asked.items() if (answer := thought.answer(index))}
    if parts and (last := list(parts)[-1]) in known:
        return Conclude(asked[last], prod(thought.verdicts[asked[number]].confidence for number in known))
    if thought.must_end:
        return Conclude(None)
    obstacle = _obstacle(thought, split, unanswered=sorted(asked.keys() - known.keys()))
    return _whole(thought, obstacle) if obstacle else _next_parts(thought, parts, asked, known)


def split_of(text: str) -> Split:
    """The split that a text holds: its first lines that are parts, one after the other."""
    parts: dict[int, Part] = {}
    for line in text.splitlines():
        match = PART.fullmatch(line.strip())
        if match is None and not parts:
            continue  # some models greet before they begin
        if match is None:
            break
        number = int(match["number"])
        if number in parts:
            return Split(parts, f"part #{number} is there twice")
        needs = {int(each) for each in (match["needs"] or "").split()}
        parts[number] = Part(match["text"], tuple(sorted(needs)))
    return Split(parts, _fault(parts))


def _fault(parts: Mapping[int, Part]) -> str | None:
    """What keeps parts from being asked one after the other."""
    if not parts:
        return "there is no split"
    for number, part in parts.items():
        if not any(character.isalnum() for character in part.text):
            return f"part #{number} asks nothing"
        absent = [each for each in part.needs if each not in parts]
        if absent:
            return f"part #{number} needs #{absent[0]}, which is not there"
    done: set[int] = set()
    left = list(parts)
    while left:
        ready = [number for number in left if done.issuperset(parts[number].needs)]
        if not ready:
            return f"the split goes in circles: part #{left[0]} needs what needs it"
        done.update(ready)
        left = [number for number in left if number not in done]
    return None


def _obstacle(thought: Thought, split: Split, unanswered: list[int]) -> str | None:
    """Why a split can't be followed, or no further; None when it can."""
    most = whole_number(thought.params, _PARAMS, "max_parts")
    if split.fault is None and len(split.parts) > most:
        return f"the split has {len(split.parts)} parts, more than {most}"
    return split.fault or (f"part #{unanswered[0]} came to no answer" if unanswered else None)


def _whole(thought: Thought, why: str) -> Grow:
    index, fields = len(thought.steps), {"question": thought.question}
    return Grow((Step(index=index, ask=_WHOLE, fields=fields, mark=_WHOLE, depends_on=(0,), why=why),))


def _next_parts(
    thought: Thought, parts: Mapping[int, Part], asked: Mapping[int, int], known: Mapping[int, str]
) -> Grow:
    """Every part that is not asked yet and whose needs are known; there is one, as no part needs what needs it."""
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


def _fields(parts: Mapping[int, Part], number: int, known: Mapping[int, str]) -> dict[str, str]:
    """The part's question and, if it needs any, what others came to: `#1 = 36`, and in full `#1: How many … = 36`."""
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
