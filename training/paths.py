"""How a path is written: a line a step, a note where a story ends, and the answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from training.columns import columns, places
from training.problems import MAX_STEPS, Calculation, Problem

LABELS = "abcdefgh"  # what a line of a path begins with: something to count by, and to find it by
assert len(LABELS) == MAX_STEPS


class Style(StrEnum):
    """How the sums of a path are done."""

    IN_THE_HEAD = "in the head"  # 347*6=2082
    FROM_THE_LEFT = "from the left"  # 347*6;1800,2040=2082
    ON_PAPER = "on paper"  # 347*6:42,28,20=2082


def _nothing(step: Calculation) -> list[str]:
    return []


_WORK: dict[Style, tuple[str, Callable[[Calculation], list[str]]]] = {
    Style.IN_THE_HEAD: ("", _nothing),
    Style.FROM_THE_LEFT: (";", places),
    Style.ON_PAPER: (":", columns),
}


@dataclass(frozen=True, slots=True)
class Line:
    """A step as a path claims it. `story` is the number of the story that ends here, in a two-branch problem."""

    step: Calculation
    result: int
    story: int | None = None

    def sum_text(self, style: Style) -> str:
        """The sum alone."""
        sign, work_out = _WORK[style]
        work = ",".join(work_out(self.step))
        return f"{self.step.expression}{sign if work else ''}{work}={self.result}"

    @property
    def note(self) -> str:
        """The line that keeps a story's result in view for the joint step; empty elsewhere."""
        return f"#{self.story}={self.result}\n" if self.story else ""


def gold_lines(problem: Problem) -> list[Line]:
    """The lines of a path without a mistake."""
    stories = {end: number for number, end in enumerate(problem.story_ends, 1)}
    return [Line(step, step.result, stories.get(index)) for index, step in enumerate(problem.calculations)]


def part_lines(steps: Sequence[Calculation]) -> list[Line]:
    """The lines for a part of a problem."""
    return [Line(step, step.result) for step in steps]


def path_text(lines: Sequence[Line], style: Style) -> str:
    """The path in full."""
    body = (
        f"{label} {line.sum_text(style)}\n{line.note}" for label, line in zip(LABELS[: len(lines)], lines, strict=True)
    )
    return f"{''.join(body)}Answer: {lines[-1].result}"


def careful_text(problem: Problem) -> str:
    """The path without a mistake, on paper, each sentence quoted before its sum."""
    body = (
        f"{label} {sentence}{' ' if sentence else ''}{line.sum_text(Style.ON_PAPER)}\n{line.note}"
        for label, sentence, line in zip(LABELS, problem.sentences, gold_lines(problem), strict=False)
    )
    return f"{''.join(body)}Answer: {problem.answer}"
