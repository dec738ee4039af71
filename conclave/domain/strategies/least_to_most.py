"""A question split into parts, each asked once those that it needs are answered: least-to-most, arXiv 2205.10625.

The split is step 0's answer, a line a part, as its form words them (`Wording.part`):

    1: How many apples does Tom have?
    2 needs 1: Ann takes 3 of #1. How many are left?

Parts that need nothing open are asked together. The last line's answer is the request's. Where a split can't be followed, the
question is asked whole, and `why` says what was wrong with it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from conclave.domain import wording
from conclave.domain.params import Param, whole_number
from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest
from schemas.values import MAX_QUESTION_CHARS, Step, Wording

_PARAMS = {"max_parts": Param(8, 1, 62, is_whole=True)}
_NUMBER = re.compile(r"[0-9]{1,3}")
_DECOMPOSE, _SUB_QUESTION, _WHOLE = "decompose", "sub_question", "whole"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a split: its number, what it asks, and the numbers of the parts whose answers it needs."""

    number: int
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
        return Grow((Step(index=0, ask=_DECOMPOSE, fields={"question": thought.question}, mark="split"),))
    whole = [step.index for step in thought.steps if step.mark == _WHOLE]
    if whole:
        return surest(thought, among=whole)
    split = split_of(thought.answer(0) or "", thought.words(_DECOMPOSE))
    parts = split.parts
    asked = {number: step.index for step in thought.steps for number in parts if step.mark == f"#{number}"}
    known = {number: answer for number, index in asked.items() if (answer := thought.answer(index))}
    if parts and (last := list(parts)[-1]) in known:
        return Conclude(asked[last], prod(thought.verdicts[asked[number]].confidence for number in known))
    if thought.must_end:
        return Conclude(None)
    obstacle = _obstacle(thought, split, unanswered=sorted(asked.keys() - known.keys()))
    return _whole(thought, obstacle) if obstacle else _next_parts(thought, parts, asked, known)


def part_of(line: str, words: Wording) -> Part | None:
    """The part that a line is; None for any other."""
    said = wording.groups(words.part, line)
    number = None if said is None else wording.number(said.get("number", ""))
    if said is None or number is None or not said.get("text"):
        return None
    needs = {int(each) for each in _NUMBER.findall(said.get("needs", ""))}
    return Part(number, said["text"], tuple(sorted(needs)))


def told_of(parts: Sequence[tuple[Part, str]], words: Wording) -> dict[str, str]:
    """What parts came to, short and in full, a line each; nothing where there are none."""
    said = [{"number": part.number, "question": part.text, "answer": answer} for part, answer in parts]
    told = {
        "earlier": "\n".join(words.known.format_map(each) for each in said),
        "earlier_in_full": "\n".join(words.known_in_full.format_map(each) for each in said),
    }
    return {name: text[:MAX_QUESTION_CHARS] for name, text in told.items() if text}


def split_of(text: str, words: Wording) -> Split:
    """The split that a text holds: its first lines that are parts, one after the other."""
    parts: dict[int, Part] = {}
    for line in text.splitlines():
        part = part_of(line.strip(), words)
        if part is None and not parts:
            continue  # some models greet before they begin
        if part is None:
            break
        if part.number in parts:
            return Split(parts, f"part #{part.number} is there twice")
        parts[part.number] = part
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
            ask=_SUB_QUESTION,
            fields=_fields(thought, parts, number, known),
            mark=f"#{number}",
            depends_on=tuple(asked[each] for each in parts[number].needs) or (0,),
        )
        for place, number in enumerate(ready)
    )
    return Grow(tuple(steps))


def _fields(thought: Thought, parts: Mapping[int, Part], number: int, known: Mapping[int, str]) -> dict[str, str]:
    """The part's question and, if it needs any, what others came to."""
    needed = [(parts[each], known[each]) for each in parts[number].needs]
    return {"question": parts[number].text, **told_of(needed, thought.words(_SUB_QUESTION))}


STRATEGY = Strategy(
    think,
    asks={_DECOMPOSE: ("question",), _SUB_QUESTION: ("question",), _WHOLE: ("question",)},
    params=_PARAMS,
)
