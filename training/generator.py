"""Seeded, endless problems, and which side of the train/test split each is on.

Train and test never share a template instance: the digest of a problem's text with its names taken out decides the split.
"""

import random
from collections.abc import Callable, Iterator
from enum import StrEnum
from hashlib import blake2b
from itertools import islice

from training.families import FAMILIES, GOODS, MONEY, NAMES, THINGS, Family, Moves
from training.problems import MAX_STEPS, MAX_VALUE, REMAINDER, Calculation, Problem, Segment

_TEST_SHARE = 20  # one instance in so many belongs to the test side
_HELD_OUT_SEED = 7
_DEVELOPMENT_SEED = 90_001
_SMALL, _LARGE = 40, 600  # half of the amounts in a story are up to the one, half up to the other
_PRICE = 400


class Split(StrEnum):
    """Which side a template instance belongs to."""

    TRAIN = "train"
    TEST = "test"


def generate(seed: int, split: Split, *, min_steps: int = 1, max_steps: int = MAX_STEPS) -> Iterator[Problem]:
    """Endless problems of one split, the same for the same seed; steps uniform in [min_steps, max_steps]."""
    rng = random.Random(seed)
    while True:
        wanted = rng.randint(min_steps, max_steps)
        problem = None
        while problem is None or split_of(problem) is not split:
            problem = rng.choices(_MAKERS, weights=_WEIGHTS)[0](rng, wanted)
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
    """One sum within the problems' bounds: over two in five are divisions, the hardest; all lengths of numbers alike."""
    while True:
        op = rng.choice("+-*//")
        value = rng.randint(2, min(MAX_VALUE, 10 ** rng.randint(1, 4) - 1))
        operand = rng.randint(2, 9) if op == "/" else _operand(rng, op, value)
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
    first, second = (_segment(rng, family, n) for n in (first_steps, wanted - 1 - first_steps))
    if first is None or second is None or first.result + second.result > MAX_VALUE:
        return None
    if rng.random() < 0.5:
        return Problem("two_branches", (first, second), "+", "How many is that together?")
    larger, smaller = (first, second) if first.result >= second.result else (second, first)
    return Problem("two_branches", (larger, smaller), "-", "How much more is the first than the second?")


def _shopping(rng: random.Random, wanted: int) -> Problem | None:
    """Rates and prices: so many things at a price each, then a chain over the money."""
    _, many = rng.choice(GOODS)
    one = many[:-1]
    price, number = rng.randint(2, _PRICE), rng.randint(2, 9)
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
    """A story that ends with the things shared out and asks for what is left over: three steps, `REMAINDER`."""
    story = _segment(rng, FAMILIES[0], wanted - 3) if wanted >= 3 else None
    if story is None or story.result < 5:
        return None
    children = rng.randint(2, min(9, story.result - 1))
    sentence = rng.choice(
        (f"They are shared equally among {children} children.", f"They go equally to {children} children.")
    )
    question = "How many are left over?"
    sentences, moves = (*story.sentences, sentence), (*story.moves, (REMAINDER, children))
    return Problem("remainders", (Segment(story.opening, story.start, sentences, moves, question),), None, question)


_Maker = Callable[[random.Random, int], Problem | None]
_MAKERS: tuple[_Maker, ...] = (_chain, _two_branches, _shopping, _remainders)
_WEIGHTS = (10, 7, 4, 3)


def _segment(rng: random.Random, family: Family, num_moves: int) -> Segment | None:
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    start = _amount(rng)
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


def _amount(rng: random.Random) -> int:
    return rng.randint(2, _SMALL) if rng.random() < 0.5 else rng.randint(_SMALL + 1, _LARGE)


def _operand(rng: random.Random, op: str, value: int) -> int | None:
    match op:
        case "+":
            amount = _amount(rng)
            return amount if value + amount <= MAX_VALUE else None
        case "-":
            return rng.randint(1, min(value - 1, _amount(rng))) if value > 2 else None
        case "*":
            top = min(9, MAX_VALUE // value)
            return rng.randint(2, top) if top >= 2 else None
        case _:
            divisors = [each for each in range(2, 10) if value % each == 0 and value > each]
            return rng.choice(divisors) if divisors else None
