"""Seeded, endless problems, and which side of the train/test split each is on.

Train and test never share a template instance: the digest of a problem's text with its names taken out decides the split.
"""

import random
from collections.abc import Callable, Iterator
from enum import StrEnum
from hashlib import blake2b
from itertools import islice

from conclave.reasoner.families import FAMILIES, GOODS, MONEY, NAMES, THINGS, Family, Moves
from conclave.reasoner.problems import MAX_STEPS, MAX_VALUE, Calculation, Problem, Segment

_TEST_SHARE = 20  # one instance in so many belongs to the test side
_HELD_OUT_SEED = 7
_DEVELOPMENT_SEED = 90_001


class Split(StrEnum):
    """Which side a template instance belongs to."""

    TRAIN = "train"
    TEST = "test"


def generate(seed: int, split: Split, *, min_steps: int = 1, max_steps: int = MAX_STEPS) -> Iterator[Problem]:
    """Endless problems of one split, the same for the same seed; steps uniform in [min_steps, max_steps]."""
    rng = random.Random(seed)
    while True:
        wanted = rng.randint(min_steps, max_steps)
        make = rng.choices(_MAKERS, weights=_WEIGHTS)[0]
        problem = make(rng, wanted)
        if problem is not None and problem.num_steps == wanted and split_of(problem) is split:
            yield problem


def held_out(number: int) -> list[Problem]:
    """The first problems of the test side: 500 to test with (data/problems/test.jsonl), then 100 for the demo."""
    unique: dict[str, Problem] = {}
    for problem in generate(_HELD_OUT_SEED, Split.TEST):
        unique.setdefault(problem.question, problem)
        if len(unique) == number:
            break
    return list(unique.values())


def development(number: int) -> list[Problem]:
    """Problems of the training side to look at while training, so that the test side decides nothing."""
    return list(islice(generate(_DEVELOPMENT_SEED, Split.TRAIN), number))


def draw_calculation(rng: random.Random) -> Calculation:
    """One sum within the problems' bounds; the operators even, the numbers too."""
    while True:
        op = rng.choice("+-*/%")
        operand = _operand(rng, "/" if op == "%" else op, value := rng.randint(2, MAX_VALUE))
        if op == "%":
            return Calculation(value, op, rng.randint(2, 9))
        if operand is not None:
            return Calculation(value, op, operand)


def split_of(problem: Problem) -> Split:
    """The side of a problem, by a digest of its text without names: instances that differ only in names stay together."""
    text = problem.question
    for name in NAMES:
        text = text.replace(name, "_")
    digest = blake2b(text.encode(), digest_size=4).digest()
    return Split.TEST if int.from_bytes(digest, "big") % _TEST_SHARE == 0 else Split.TRAIN


def _chain(rng: random.Random, wanted: int) -> Problem | None:
    """One story of `wanted` steps."""
    family = rng.choice(FAMILIES)
    segment = _segment(rng, family, wanted)
    return None if segment is None else Problem(family.name, (segment,), None, segment.question)


def _two_branches(rng: random.Random, wanted: int) -> Problem | None:
    """Two independent stories and a last step over their results."""
    if wanted < 3:
        return None
    family = rng.choice(FAMILIES[:3])
    first_steps = rng.randint(1, wanted - 2)
    segments = tuple(_segment(rng, family, n) for n in (first_steps, wanted - 1 - first_steps))
    if segments[0] is None or segments[1] is None or segments[0].result + segments[1].result > MAX_VALUE:
        return None
    joint, ending = rng.choice((("+", "How many is that together?"), ("-", "What is the difference of the two?")))
    return Problem("two_branches", (segments[0], segments[1]), joint, ending)


def _shopping(rng: random.Random, wanted: int) -> Problem | None:
    """Rates and prices: so many things at a price each, then a chain over the money."""
    _, many = rng.choice(GOODS)
    one = many[:-1]
    price, number = rng.randint(2, 25), rng.randint(2, 12)
    tail = _story(rng, MONEY, price * number, wanted - 1, rng.choice(NAMES))
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
    family = FAMILIES[0]
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


def _segment(rng: random.Random, family: Family, num_moves: int) -> Segment | None:
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    start = rng.randint(2, 60)
    story = _story(rng, family.moves, start, num_moves, name)
    if story is None:
        return None
    sentences, moves, _ = story
    opening = rng.choice(family.openings).format(a=name, things=things)
    return Segment(opening, start, sentences, moves, family.ending.format(a=name, things=things))


def _story(
    rng: random.Random, table: Moves, value: int, num_moves: int, name: str
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
        other = rng.choice([each for each in NAMES if each != name])
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
