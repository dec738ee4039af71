"""Word problems of 1 to 8 steps with gold reasoning and gold answers.

A problem is a list of *segments*, each a little story that ends in a number. Most problems are a single segment or a chain of
them; a two-branch problem has two independent ones whose results a last step combines. A segment knows its sentences and
its steps, from which every skill's training text derives (conclave.reasoner.skills).
"""

from dataclasses import dataclass

MAX_STEPS = 8
MAX_VALUE = 299


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
        """What the step comes to; `/` divides whole, `%` is what a division leaves."""
        match self.op:
            case "+":
                return self.left + self.right
            case "-":
                return self.left - self.right
            case "*":
                return self.left * self.right
            case "/":
                return self.left // self.right
            case _:
                return self.left % self.right


@dataclass(frozen=True, slots=True)
class Segment:
    """A story that ends in a number. `opening` holds `{start}`; with another start it is another story, same steps."""

    opening: str
    start: int
    sentences: tuple[str, ...]
    moves: tuple[tuple[str, int], ...]
    question: str

    def calculations(self, start: int | None = None) -> list[Calculation]:
        """The steps, in order, each from the result of the one before."""
        value, steps = self.start if start is None else start, []
        for op, operand in self.moves:
            steps.append(Calculation(value, op, operand))
            value = steps[-1].result
        return steps

    @property
    def result(self) -> int:
        """The number that the story ends in."""
        steps = self.calculations()
        return steps[-1].result if steps else self.start

    def text(self, start: str | None = None) -> str:
        """The story without its question."""
        return " ".join((self.opening.format(start=self.start if start is None else start), *self.sentences))


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
        return " ".join((*(segment.text() for segment in self.segments), self.ending))

    @property
    def calculations(self) -> list[Calculation]:
        """All steps, in an order in which they can be done."""
        steps = [step for segment in self.segments for step in segment.calculations()]
        if self.joint:
            left, right = (segment.result for segment in self.segments)
            steps.append(
                Calculation(
                    max(left, right) if self.joint == "-" else left,
                    self.joint,
                    min(left, right) if self.joint == "-" else right,
                )
            )
        return steps

    @property
    def answer(self) -> int:
        """The gold answer."""
        return self.calculations[-1].result

    @property
    def num_steps(self) -> int:
        """The difficulty label: how many calculations it takes."""
        return len(self.calculations)
