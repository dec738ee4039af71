"""How a problem is split: parts small enough to be worked out on paper, each told what it needs of earlier ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from training.problems import REMAINDER, Calculation, Problem, Segment

PART_MOVES = 2  # most moves of a part; one that takes several steps is a part by itself
NOTHING = "nothing"  # what a part that needs no other is told of earlier ones


@dataclass(frozen=True, slots=True)
class SubQuestion:
    """A part of a problem: its text with `#n` for the answers of earlier parts, those parts, and its own steps."""

    text: str
    needs: tuple[int, ...]
    steps: tuple[Calculation, ...]


def split(problem: Problem) -> list[SubQuestion]:
    """The problem in parts, in an order in which they can be answered."""
    parts: list[SubQuestion] = []
    ends: list[int] = []
    for segment in problem.segments:
        parts += _split_segment(segment, len(parts), None if problem.joint else problem.ending)
        ends.append(len(parts))
    if problem.joint:
        text = f"There are #{ends[0]} and #{ends[1]}. {problem.ending}"
        parts.append(SubQuestion(text, (ends[0], ends[1]), (problem.calculations[-1],)))
    return parts


def plan_text(parts: Sequence[SubQuestion]) -> str:
    """How a split is written: `2 needs 1: ...`, a line a part."""
    needs = (f" needs {' '.join(map(str, part.needs))}" if part.needs else "" for part in parts)
    return "\n".join(
        f"{number}{each}: {part.text}" for number, (part, each) in enumerate(zip(parts, needs, strict=True), 1)
    )


def answers_of(parts: Sequence[SubQuestion]) -> dict[int, str]:
    """The gold answer of each part by its number."""
    return {number: str(part.steps[-1].result) for number, part in enumerate(parts, 1)}


def needed_answers(needs: Sequence[int], known: Mapping[int, str]) -> str:
    """What a part is told of earlier ones: `#1 = 36`, a line each; 0 for one that is not known."""
    return "\n".join(f"#{need} = {known.get(need, '0')}" for need in needs) or NOTHING


def _split_segment(segment: Segment, offset: int, ending: str | None) -> list[SubQuestion]:
    """The parts of a segment, numbered from `offset` + 1; the last asks `ending` where there is one."""
    parts: list[SubQuestion] = []
    groups = _groups(segment.moves)
    for end, size in zip(accumulate(groups), groups, strict=True):
        begin, before = end - size, offset + len(parts)
        opening = segment.opening.format(start=segment.start) if begin == 0 else f"Start from #{before}."
        question = ending if ending and end == len(segment.moves) else "How many is that?"
        text = " ".join((opening, *segment.sentences[begin:end], question))
        steps = tuple(step for move in segment.calculations[begin:end] for step in move)
        parts.append(SubQuestion(text, () if begin == 0 else (before,), steps))
    return parts


def _groups(moves: Sequence[tuple[str, int]]) -> list[int]:
    """How many moves each part has."""
    sizes: list[int] = []
    is_open = False
    for op, _ in moves:
        if is_open and op != REMAINDER and sizes[-1] < PART_MOVES:
            sizes[-1] += 1
        else:
            sizes.append(1)
        is_open = op != REMAINDER
    return sizes
