"""Word problems of 1 to 8 steps with gold reasoning and gold answers.

A problem is a list of *segments*, each a little story that ends in a number. Most problems are a single segment; a two-branch
problem has two independent ones whose results a last step combines. A segment knows its sentences and its steps, from
which every skill's training text derives (training.skills).
"""

from dataclasses import dataclass
from itertools import accumulate

MAX_STEPS = 8
MAX_VALUE = 9_999
REMAINDER = "%"  # a move that takes three steps: divide, multiply back, subtract


@dataclass(frozen=True, slots=True)
class Calculation:
    """One step: `left op right = result`, all non-negative integers."""

    left: int
    op: str
    right: int

    @property
    def expression(self) -> str:
        """The step without its result."""
        return f"{self.left}{self.op}{self.right}"

    @property
    def result(self) -> int:
        """What the step comes to; `/` divides whole."""
        match self.op:
            case "+":
                return self.left + self.right
            case "-":
                return self.left - self.right
            case "*":
                return self.left * self.right
            case _:
                return self.left // self.right


@dataclass(frozen=True, slots=True)
class Segment:
    """A story that ends in a number. `opening` holds `{start}`; each sentence has its move."""

    opening: str
    start: int
    sentences: tuple[str, ...]
    moves: tuple[tuple[str, int], ...]
    question: str

    @property
    def calculations(self) -> list[list[Calculation]]:
        """The steps of each move, in order: three of a remainder, one of any other."""
        value, steps = self.start, []
        for op, operand in self.moves:
            steps.append(_steps_of(value, op, operand))
            value = steps[-1][-1].result
        return steps

    @property
    def result(self) -> int:
        """The number that the story ends in."""
        return self.calculations[-1][-1].result if self.moves else self.start

    @property
    def text(self) -> str:
        """The story without its question."""
        return " ".join((self.opening.format(start=self.start), *self.sentences))


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its gold reasoning. `joint` combines the results of two segments; a chain has none."""

    family: str
    segments: tuple[Segment, ...]
    joint: str | None  # an operator over the two results
    ending: str  # the question sentence

    @property
    def question(self) -> str:
        """The problem as asked."""
        return " ".join((*(segment.text for segment in self.segments), self.ending))

    @property
    def calculations(self) -> list[Calculation]:
        """All steps, in an order in which they can be done."""
        steps = [step for segment in self.segments for move in segment.calculations for step in move]
        if self.joint:
            left, right = (segment.result for segment in self.segments)
            steps.append(Calculation(left, self.joint, right))
        return steps

    @property
    def story_ends(self) -> tuple[int, ...]:
        """For a problem with a joint step: the indexes of the steps in which its stories end."""
        if not self.joint:
            return ()
        lengths = (sum(map(len, segment.calculations)) for segment in self.segments)
        return tuple(end - 1 for end in accumulate(lengths))

    @property
    def sources(self) -> list[tuple[int | None, int | None]]:
        """For each step the indexes of the steps that its left and right number come from; None: from the question."""
        found: list[tuple[int | None, int | None]] = []
        for segment in self.segments:
            before: int | None = None
            for op, _ in segment.moves:
                here = len(found)
                found.append((before, None))
                if op == REMAINDER:
                    found += [(here, None), (before, here + 1)]
                before = len(found) - 1
        if self.joint:
            first, second = self.story_ends
            found.append((first, second))
        return found

    @property
    def sentences(self) -> list[str]:
        """For each step the sentence that it comes from; empty for the later steps of a sentence that takes several."""
        found: list[str] = []
        for segment in self.segments:
            for sentence, steps in zip(segment.sentences, segment.calculations, strict=True):
                found += [sentence, *("" for _ in steps[1:])]
        return [*found, self.ending] if self.joint else found

    @property
    def answer(self) -> int:
        """The gold answer."""
        return self.calculations[-1].result

    @property
    def num_steps(self) -> int:
        """The difficulty label: how many calculations it takes."""
        return len(self.calculations)


def _steps_of(value: int, op: str, operand: int) -> list[Calculation]:
    if op != REMAINDER:
        return [Calculation(value, op, operand)]
    shares = Calculation(value, "/", operand)
    given_out = Calculation(shares.result, "*", operand)
    return [shares, given_out, Calculation(value, "-", given_out.result)]
