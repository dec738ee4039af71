"""Seeded word problems of 1 to 8 steps with gold reasoning and gold answers.

A problem is a list of *segments*, each a little story that ends in a number. Most problems are a single segment or a chain of
them; a two-branch problem has two independent ones whose results a last step combines. A segment knows its sentences and
its steps, from which every skill's training text derives (conclave.reasoner.skills).

Train and test never share a template instance: the digest of a problem's text with its names taken out decides the split.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

MAX_STEPS = 8
MAX_VALUE = 299
_TEST_SHARE = 20  # one instance in so many belongs to the test side


class Split(StrEnum):
    """Which side a template instance belongs to."""

    TRAIN = "train"
    TEST = "test"


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


_NAMES = (
    "Tom",
    "Ann",
    "Bob",
    "Eva",
    "Max",
    "Lea",
    "Sam",
    "Mia",
    "Ben",
    "Zoe",
    "Jan",
    "Ida",
    "Leo",
    "Amy",
    "Kim",
    "Ron",
)
_THINGS = ("apples", "books", "coins", "cards", "pens", "shells", "stamps", "balls", "cups", "nuts", "beads", "keys")
_GOODS = (("pen", "pens"), ("cup", "cups"), ("book", "books"), ("ball", "balls"), ("card", "cards"), ("lamp", "lamps"))

# A move: operator and the phrasings of its sentence.
_Moves = tuple[tuple[str, tuple[str, ...]], ...]
_QUANTITY: _Moves = (
    ("+", ("{a} buys {n} more.", "{a} finds {n} more.", "{b} gives {a} {n} more.", "{a} wins {n} more.")),
    ("-", ("{a} gives {n} to {b}.", "{a} loses {n}.", "{a} sells {n}.", "{b} takes {n} from {a}.")),
    (
        "*",
        (
            "Then {a} gets {n} times as many.",
            "The number grows to {n} times as many.",
            "{a} makes it {n} times as many.",
        ),
    ),
    (
        "/",
        (
            "{a} puts them into {n} equal bags and keeps one bag.",
            "{a} shares them equally among {n} friends and keeps one part.",
            "{a} splits them into {n} equal parts and keeps one.",
        ),
    ),
)
_MONEY: _Moves = (
    ("+", ("{a} earns {n} dollars.", "{a} gets {n} dollars from {b}.", "{b} pays {a} {n} dollars.")),
    ("-", ("{a} spends {n} dollars.", "{a} pays {n} dollars for lunch.", "{a} lends {b} {n} dollars.")),
    (
        "*",
        (
            "The money grows to {n} times as much.",
            "{a} ends up with {n} times as much.",
            "It becomes {n} times as much.",
        ),
    ),
    (
        "/",
        (
            "{a} keeps one of {n} equal shares.",
            "{a} divides the money by {n} and keeps one part.",
            "Only one part in {n} is left.",
        ),
    ),
)
_AGES: _Moves = (
    ("+", ("{b} is {n} years older than that.", "{n} years pass.", "Add {n} years to that.")),
    ("-", ("{b} is {n} years younger than that.", "Go back {n} years.", "Take {n} years off.")),
    (
        "*",
        ("{b} is {n} times as old as that.", "The house is {n} times as old as that.", "A tree is {n} times that age."),
    ),
)
_COMPARE: _Moves = (
    ("+", ("{b} has {n} more than that.", "{b} owns {n} more than that.", "The next one has {n} more.")),
    ("-", ("{b} has {n} fewer than that.", "{b} owns {n} fewer than that.", "The next one has {n} fewer.")),
    ("*", ("{b} has {n} times as many as that.", "{b} owns {n} times that.", "The next one has {n} times as many.")),
)
_UNITS: _Moves = (
    ("+", ("Another {n} minutes pass.", "A break takes {n} minutes.", "It goes on for {n} minutes.")),
    ("-", ("It is cut by {n} minutes.", "{n} minutes are saved.", "It ends {n} minutes sooner.")),
    ("*", ("It is done {n} times over.", "It happens {n} times.", "All of it is repeated {n} times.")),
)


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    openings: tuple[str, ...]
    moves: _Moves
    ending: str
    first: tuple[tuple[str, int], ...] = ()  # moves that the opening already implies


_FAMILIES: tuple[_Family, ...] = (
    _Family(
        "quantities",
        ("{a} has {{start}} {things}.", "There are {{start}} {things} in {a}'s box."),
        _QUANTITY,
        "How many {things} does {a} have now?",
    ),
    _Family(
        "money",
        ("{a} has {{start}} dollars.", "{a} starts with {{start}} dollars."),
        _MONEY,
        "How many dollars does {a} have now?",
    ),
    _Family(
        "comparisons",
        ("{a} has {{start}} {things}.", "{a} owns {{start}} {things}."),
        _COMPARE,
        "How many {things} is that?",
    ),
    _Family("ages", ("{a} is {{start}} years old.", "{a} turns {{start}} today."), _AGES, "What age is that?"),
    _Family(
        "units",
        ("A film lasts {{start}} minutes.", "A trip takes {{start}} minutes."),
        _UNITS,
        "How many minutes is that?",
    ),
)


def generate(seed: int, split: Split, *, min_steps: int = 1, max_steps: int = MAX_STEPS) -> Iterator[Problem]:
    """Endless problems of one split, the same for the same seed; steps uniform in [min_steps, max_steps]."""
    rng = random.Random(seed)
    while True:
        wanted = rng.randint(min_steps, max_steps)
        make = rng.choices(_MAKERS, weights=_WEIGHTS)[0]
        problem = make(rng, wanted)
        if problem is not None and problem.num_steps == wanted and split_of(problem) is split:
            yield problem


def split_of(problem: Problem) -> Split:
    """The side of a problem, by a digest of its text without names: instances that differ only in names stay together."""
    text = problem.question
    for name in _NAMES:
        text = text.replace(name, "_")
    digest = blake2b(text.encode(), digest_size=4).digest()
    return Split.TEST if int.from_bytes(digest, "big") % _TEST_SHARE == 0 else Split.TRAIN


def _chain(rng: random.Random, wanted: int) -> Problem | None:
    """One story of `wanted` steps."""
    family = rng.choice(_FAMILIES)
    segment = _segment(rng, family, wanted)
    return None if segment is None else Problem(family.name, (segment,), None, segment.question)


def _two_branches(rng: random.Random, wanted: int) -> Problem | None:
    """Two independent stories and a last step over their results."""
    if wanted < 3:
        return None
    family = rng.choice(_FAMILIES[:3])
    first_steps = rng.randint(1, wanted - 2)
    segments = tuple(_segment(rng, family, n) for n in (first_steps, wanted - 1 - first_steps))
    if segments[0] is None or segments[1] is None or segments[0].result + segments[1].result > MAX_VALUE:
        return None
    joint, ending = rng.choice((("+", "How many is that together?"), ("-", "What is the difference of the two?")))
    return Problem("two_branches", (segments[0], segments[1]), joint, ending)


def _shopping(rng: random.Random, wanted: int) -> Problem | None:
    """Rates and prices: so many things at a price each, then a chain over the money."""
    _, many = rng.choice(_GOODS)
    one = many[:-1]
    price, number = rng.randint(2, 25), rng.randint(2, 12)
    tail = _story(rng, _MONEY, price * number, wanted - 1, rng.choice(_NAMES))
    if tail is None:
        return None
    sentences, moves, name = tail
    opening = rng.choice((f"A {one} costs {{start}} dollars.", f"One {one} is sold for {{start}} dollars."))
    first = f"{name} sells {number} {many}."
    segment = Segment(
        opening, price, (first, *sentences), (("*", number), *moves), f"How many dollars does {name} have now?"
    )
    return Problem("rates", (segment,), None, segment.question)


def _remainders(rng: random.Random, wanted: int) -> Problem | None:
    """A story whose last step shares the things out and asks for what is left over."""
    family = _FAMILIES[0]
    segment = _segment(rng, family, wanted - 1)
    if segment is None or segment.result < 5:
        return None
    children = rng.randint(2, min(9, segment.result - 1))
    sentence = rng.choice(
        (f"They are shared equally among {children} children.", f"They go equally to {children} children.")
    )
    question = "How many are left over?"
    whole = Segment(
        segment.opening, segment.start, (*segment.sentences, sentence), (*segment.moves, ("%", children)), question
    )
    return Problem("remainders", (whole,), None, question)


_Maker = Callable[[random.Random, int], Problem | None]
_MAKERS: tuple[_Maker, ...] = (_chain, _two_branches, _shopping, _remainders)
_WEIGHTS = (6, 3, 2, 1)


def _segment(rng: random.Random, family: _Family, num_moves: int) -> Segment | None:
    name, things = rng.choice(_NAMES), rng.choice(_THINGS)
    start = rng.randint(2, 60)
    story = _story(rng, family.moves, start, num_moves, name)
    if story is None:
        return None
    sentences, moves, _ = story
    opening = rng.choice(family.openings).format(a=name, things=things)
    return Segment(opening, start, sentences, moves, family.ending.format(a=name, things=things))


def _story(
    rng: random.Random, table: _Moves, value: int, num_moves: int, name: str
) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...], str] | None:
    """Sentences and moves that keep the value within [1, MAX_VALUE]; None when the dice lead nowhere."""
    sentences, moves = [], []
    for _ in range(num_moves):
        for _attempt in range(20):
            op, phrasings = rng.choice(table)
            operand = _operand(rng, op, value)
            if operand is not None:
                break
        else:
            return None
        other = rng.choice([each for each in _NAMES if each != name])
        sentences.append(rng.choice(phrasings).format(a=name, b=other, n=operand))
        moves.append((op, operand))
        value = Calculation(value, op, operand).result
    return tuple(sentences), tuple(moves), name


def _operand(rng: random.Random, op: str, value: int) -> int | None:
    match op:
        case "+":
            return rng.randint(2, 40) if value <= MAX_VALUE - 40 else None
        case "-":
            return rng.randint(1, min(40, value - 1)) if value > 2 else None
        case "*":
            top = min(9, MAX_VALUE // value)
            return rng.randint(2, top) if top >= 2 else None
        case _:
            divisors = [each for each in range(2, 10) if value % each == 0 and value > each]
            return rng.choice(divisors) if divisors else None
