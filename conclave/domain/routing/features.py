"""What a router goes by: figures of a question (`FEATURES`) and what it is after (`INTENTS`). Cheap, and known before any model.

The words are English; on questions in other languages the figures of numbers, signs and length are left, and the intent
`calculation`.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from conclave.domain.questions import Kind, Token, tokens

_OPERATORS = frozenset("+-*/×÷·^=%<>√")
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_RELATIONS = frozenset(
    (
        "more less fewer twice half double triple times each per every equally shared split left remaining remain total "
        "altogether together both than increased decreased average difference ratio percent rest another same half-price"
    ).split()
)
_CLAUSES = frozenset("if when then after before while because which who that until unless and but so".split())
_FILLING = frozenset(
    "what what's is are the how much many calculate compute evaluate work out find value of result answer equals equal".split()
)
_SPOKEN = frozenset("plus minus times divided by over squared cubed".split())
_CODE = re.compile(r"```|\b(?:def|class|return|import|SELECT|function|const|void)\b[^.?!]{0,40}[({:;]|[;{}]\s*\n")
_CHOICE = re.compile(r"(?:^|\s)\(?[A-Da-d][).:]\s\S")
_YES_NO = frozenset("is are was were do does did can could has have had will would should may must".split())
_ASKING = frozenset("who when where which what whose whom".split())
_REASONING = frozenset("why explain prove show derive compare discuss argue justify".split())


@dataclass(frozen=True)
class Seen:
    """A question as a router sees it."""

    question: str

    @cached_property
    def tokens(self) -> tuple[Token, ...]:
        """Its words, numbers and signs."""
        return tokens(self.question)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Its words without regard to case; numbers in words are none."""
        return tuple(each.text.casefold() for each in self.tokens if each.kind is Kind.WORD)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """All that it says, without regard to case: words, numbers and signs."""
        return tuple(each.text.casefold() for each in self.tokens)

    @cached_property
    def numbers(self) -> tuple[Fraction | None, ...]:
        """Its numbers, in digits and in words; None for one that can't be read."""
        return tuple(each.value for each in self.tokens if each.kind is Kind.NUMBER)

    @cached_property
    def num_operators(self) -> int:
        """Signs of operation; a hyphen inside a word is none."""
        return sum(each.kind is Kind.SIGN and each.text in _OPERATORS for each in self.tokens)

    @cached_property
    def intent(self) -> str:
        """What it is after: the first row of `INTENTS` that knows it."""
        return next(name for name, knows in INTENTS.items() if knows(self))


def _sentences(seen: Seen) -> float:
    ends = sum(each.kind is Kind.SIGN and each.text in ".?!" for each in seen.tokens)
    return float(max(1, ends))


def _nesting(seen: Seen) -> float:
    depth = deepest = 0
    for each in seen.tokens:
        if each.text in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        elif each.text in _CLOSING:
            depth = max(0, depth - 1)
    return float(deepest)


def _largest(seen: Seen) -> float:
    """Decimal digits before the point of the largest number; 0 without one."""
    known = [abs(each) for each in seen.numbers if each is not None]
    return float(len(str(int(max(known))))) if known else 0.0


FEATURES: Mapping[str, Callable[[Seen], float]] = {
    "chars": lambda seen: float(len(seen.question)),
    "words": lambda seen: float(len(seen.words)),
    "sentences": _sentences,
    "numbers": lambda seen: float(len(seen.numbers)),
    "largest": _largest,
    "operators": lambda seen: float(seen.num_operators),
    "nesting": _nesting,
    "relations": lambda seen: float(sum(word in _RELATIONS for word in seen.words)),
    "clauses": lambda seen: float(sum(word in _CLAUSES for word in seen.words)),
    "reasoning": lambda seen: float(sum(word in _REASONING for word in seen.words)),
    "long_words": lambda seen: float(sum(len(word) > 8 for word in seen.words)),
}


def figures(seen: Seen, names: tuple[str, ...] = tuple(FEATURES)) -> tuple[float, ...]:
    """The logarithm of one plus each named figure, so that a long question is no outlier; all of them unless named."""
    return tuple(math.log1p(FEATURES[name](seen)) for name in names)


def _is_calculation(seen: Seen) -> bool:
    asked = [word for word in seen.words if word not in _FILLING]
    return bool(seen.numbers) and (seen.num_operators > 0 or bool(asked)) and all(word in _SPOKEN for word in asked)


def _is_word_problem(seen: Seen) -> bool:
    asks = any(word in ("how", "what", "find", "calculate", "which") for word in seen.words)
    return asks and len(seen.numbers) >= 2


# In this order: the first that knows a question names its intent.
INTENTS: Mapping[str, Callable[[Seen], bool]] = {
    "code": lambda seen: _CODE.search(seen.question) is not None,
    "calculation": _is_calculation,
    "choice": lambda seen: len(_CHOICE.findall(seen.question)) >= 2,
    "word_problem": _is_word_problem,
    "reasoning": lambda seen: any(word in _REASONING for word in seen.words[:4]),
    "yes_no": lambda seen: bool(seen.words) and seen.words[0] in _YES_NO,
    "lookup": lambda seen: bool(seen.words) and seen.words[0].partition("'")[0] in _ASKING,
    "other": lambda seen: True,
}
