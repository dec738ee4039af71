"""Exact arithmetic on what a model writes: read by a parser of its own, computed in fractions, never evaluated as code.

17-6          ->  11            2*(3+4)^2  ->  98         50*10%       ->  5
1,000/8       ->  125           1/3+1/6    ->  0.5        10/3         ->  10/3
1/0           ->  error: division by zero
__import__    ->  error: '_' is no part of an expression

`+ - * / // % ** ^`, their lookalikes (`× · ÷ −`), brackets, thousands separated by commas. `%` before a number or a bracket is
the remainder, elsewhere hundredths. `**` and `^` bind to the right and before a sign: -2^2 is -4.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from conclave.domain.equivalence.numbers import spelled
from conclave.errors import ConclaveError

MAX_CHARS = 1_000
MAX_DEPTH = 64  # of brackets and of powers of powers; each takes a few frames of the stack
MAX_BITS = 2_048  # of numerator and denominator of every number on the way: 617 digits, multiplied in microseconds

_LOOKALIKES = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")", "\xa0": " "})
_TOKEN = re.compile(
    r"[ \t\r\n]*(?:(?P<number>[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    r"|(?P<sign>\*\*|//|[-+*/%^()]))"
)


class _Wrong(ConclaveError):
    """What is wrong with an expression, in words for the model."""


def calculate(expression: str) -> str:
    """The value, exact: a whole number, a decimal where one is exact, else a reduced fraction; or `error: …`. Total."""
    return _answered(expression, _divided)


def calculate_whole(expression: str) -> str:
    """As `calculate`, but `/` divides whole, rounding down, as on problems about things that can't be cut."""
    return _answered(expression, _divided_whole)


def _answered(expression: str, divide: Callable[[Fraction, Fraction], Fraction]) -> str:
    try:
        return spelled(_Parser(expression, divide).value())
    except _Wrong as wrong:
        return f"error: {wrong}"


def _divided(left: Fraction, right: Fraction) -> Fraction:
    if not right:
        raise _Wrong("division by zero")
    return left / right


def _divided_whole(left: Fraction, right: Fraction) -> Fraction:
    return Fraction(_divided(left, right).__floor__())


class _Parser:
    """A recursive descent over the tokens of one expression."""

    def __init__(self, expression: str, divide: Callable[[Fraction, Fraction], Fraction]) -> None:
        self._tokens, self._at, self._depth, self._divide = _tokens(expression), 0, 0, divide

    def value(self) -> Fraction:
        """The value of the whole expression. Raises: _Wrong."""
        value = self._sum()
        if self._at < len(self._tokens):
            raise _Wrong(f"an operator is missing before {self._tokens[self._at]}")
        return value

    def _sum(self) -> Fraction:
        value = self._product()
        while sign := self._taken("+", "-"):
            right = self._product()
            value = _bounded(value + right if sign == "+" else value - right)
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while sign := self._taken("*", "/", "//", "%"):
            right = self._signed()
            match sign:
                case "*":
                    value = _bounded(value * right)
                case "/":
                    value = _bounded(self._divide(value, right))
                case "//":
                    value = _bounded(_divided_whole(value, right))
                case _:
                    value = _bounded(value - right * _divided_whole(value, right))
        return value

    def _signed(self) -> Fraction:
        is_negative = False
        while sign := self._taken("+", "-"):
            is_negative ^= sign == "-"
        value = self._power()
        return -value if is_negative else value

    def _power(self) -> Fraction:
        base = self._percent()
        if not self._taken("**", "^"):
            return base
        self._deeper()
        exponent = self._signed()
        self._depth -= 1
        return _raised(base, exponent)

    def _percent(self) -> Fraction:
        value = self._atom()
        while self._next() == "%" and not self._begins_value(self._at + 1):
            self._at += 1
            value = _bounded(value / 100)
        return value

    def _atom(self) -> Fraction:
        token = self._next()
        self._at += 1
        if token == "(":
            self._deeper()
            value = self._sum()
            self._depth -= 1
            if not self._taken(")"):
                raise _Wrong("a bracket is not closed")
            return value
        if token is None:
            raise _Wrong("the expression ends where a number is expected")
        if not self._begins_value(self._at - 1):
            raise _Wrong(f"{token} stands where a number is expected")
        return _bounded(Fraction(token.replace(",", "").rstrip(".")))

    def _begins_value(self, at: int) -> bool:
        return at < len(self._tokens) and (self._tokens[at] == "(" or self._tokens[at][-1] in "0123456789.")

    def _next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _taken(self, *signs: str) -> str | None:
        token = self._next()
        if token not in signs:
            return None
        self._at += 1
        return token

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Wrong(f"nested more than {MAX_DEPTH} deep")


def _tokens(expression: str) -> list[str]:
    if len(expression) > MAX_CHARS:
        raise _Wrong(f"the expression has {len(expression):,} characters, at most {MAX_CHARS:,} are read")
    text = expression.translate(_LOOKALIKES).strip().removesuffix("=").rstrip()
    if not text:
        raise _Wrong("the expression is empty")
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _Wrong(f"{text[at:].lstrip()[:1]!r} is no part of an expression")
        found.append(match["number"] or match["sign"])
        at = match.end()
    return found


def _raised(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise _Wrong(f"the exponent {spelled(exponent)} is no whole number")
    if not base and exponent < 0:
        raise _Wrong("division by zero")
    if abs(base.numerator) > 1 or base.denominator > 1:
        # x^n has at least (bits of x - 1) * n bits: what would be too large is never computed.
        bits = max(base.numerator.bit_length(), base.denominator.bit_length()) - 1
        if bits * abs(exponent) > MAX_BITS:
            raise _Wrong("a number on the way is too large")
    elif exponent:
        return base if exponent % 2 else abs(base)  # 0, 1 and -1, to whatever power
    return _bounded(base ** int(exponent))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _Wrong("a number on the way is too large")
    return value
