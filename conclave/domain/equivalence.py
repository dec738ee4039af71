"""When two answers are the same vote: `EQUIVALENCES`, a function a rule.

A rule gives each answer of a step the label of its cluster, "" to one that says nothing. It sees the answers together, in
launch order, and depends on nothing else, so a prefix of a vote is judged by its own answers.

Under "short_answer" two answers are the same when they have the same canonical form. It is total on any text, and
idempotent.

36   36.0   36.   $36   +36   \\boxed{36}      ->  36
1,000   1000.00                                ->  1000
1/2   0.50   \\frac{3}{6}                       ->  0.5     2/6  ->  1/3
5 %   5.0\\%                                     ->  5%      never the same as 5 or 0.05
" Yes. "                                       ->  yes
"""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache

# Longer text is compared as it is: it is no short answer, and casefold may triple it (an answer holds 4,096).
_MAX_CHARS = 1024
_MAX_NUMBER_CHARS = 64

_FULL_WIDTH = {chr(ord("０") + digit): str(digit) for digit in range(10)}
_LOOKALIKES = str.maketrans({"−": "-", "∕": "/", "⁄": "/", "％": "%", **_FULL_WIDTH})
_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_DECIMAL = re.compile(rf"(?P<sign>[+-]?) ?(?:\\?[$€£] ?)?(?P<late_sign>[+-]?)(?P<number>{_NUMBER}) ?(?P<percent>\\?%)?")
_SLASHED = re.compile(r"(?P<sign>[+-]?) ?(?P<top>[0-9]+) ?/ ?(?P<bottom>[0-9]+)")
_FRAC = re.compile(r"(?P<sign>[+-]?) ?\\frac ?\{ ?(?P<top>-?[0-9]+) ?\} ?\{ ?(?P<bottom>[0-9]+) ?\}")
_WRAPPERS = (("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"))
_COMMANDS = ("\\boxed{", "\\text{", "\\mathrm{", "\\textbf{", "\\mathbf{")


Equivalence = Callable[[Sequence[str]], Sequence[str]]


def short_answer(answers: Sequence[str]) -> list[str]:
    """A cluster for each canonical form: numbers, words and symbols, however they are written."""
    return [canonical(answer) for answer in answers]


def verbatim(answers: Sequence[str]) -> list[str]:
    """A cluster for each text: for what must come back as it was written, such as a plan."""
    return [answer.strip() for answer in answers]


EQUIVALENCES: dict[str, Equivalence] = {
    "short_answer": short_answer,
    "verbatim": verbatim,
}


def are_same(one: str, other: str) -> bool:
    """True when two short answers are the same vote where only they are cast."""
    label, of_other = short_answer([one, other])
    return label == of_other != ""


@lru_cache(maxsize=8192)
def canonical(answer: str) -> str:
    """The form that all equal answers share; empty when `answer` says nothing."""
    text = " ".join(answer.split())
    if len(text) > _MAX_CHARS:
        return text
    text = text.translate(_LOOKALIKES).casefold().replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = _unwrapped(text)
    return _as_number(text) or text


def _unwrapped(text: str) -> str:
    """`text` without what only surrounds it. Every turn makes it shorter, so this ends."""
    while True:
        bare = _without_wrapper(" ".join(text.split()).rstrip("."))
        if bare == text:
            return text
        text = bare


def _without_wrapper(text: str) -> str:
    for opening, closing in _WRAPPERS:
        inner = text[len(opening) : -len(closing)]
        is_whole = len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing)
        if is_whole and opening not in inner and closing not in inner:
            return inner
    for command in _COMMANDS:
        if text.startswith(command) and text.endswith("}") and _is_balanced(text[len(command) : -1]):
            return text[len(command) : -1]
    return text


def _is_balanced(text: str) -> bool:
    depth = 0
    for char in text:
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return False
    return depth == 0


def _as_number(text: str) -> str | None:
    """The number that `text` writes, in its one canonical spelling; None when it writes none."""
    if len(text) > _MAX_NUMBER_CHARS:
        return None
    if match := _DECIMAL.fullmatch(text):
        if match["sign"] and match["late_sign"]:
            return None
        value = Fraction(match["number"].replace(",", "").rstrip(".") or "0")
        is_negative = "-" in (match["sign"], match["late_sign"])
        return _spelled(-value if is_negative else value) + ("%" if match["percent"] else "")
    if (match := _SLASHED.fullmatch(text) or _FRAC.fullmatch(text)) and int(match["bottom"]):
        value = Fraction(int(match["top"]), int(match["bottom"]))
        return _spelled(-value if match["sign"] == "-" else value)
    return None


def _spelled(value: Fraction) -> str:
    """A decimal where one is exact, else a reduced fraction."""
    twos, rest = _factored(value.denominator, 2)
    fives, rest = _factored(rest, 5)
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    whole, part = (digits[:-places], digits[-places:]) if places else (digits, "")
    return ("-" if value < 0 else "") + whole + (f".{part}" if part else "")


def _factored(number: int, prime: int) -> tuple[int, int]:
    """How often `prime` divides `number`, and what is left."""
    times = 0
    while number % prime == 0:
        number, times = number // prime, times + 1
    return times, number
