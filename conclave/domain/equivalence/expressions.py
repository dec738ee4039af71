"""Formulas in LaTeX and plain text, read as polynomials: x^2+1 is 1+x^2, √8 is 2√2, 2+3 is 5.

What would take long, or grow beyond limits, is no formula here, and compared as text.
"""

import re
from fractions import Fraction
from itertools import islice

from conclave.domain.equivalence.polynomials import (
    MAX_POWER,
    NoFormula,
    Polynomial,
    absolute,
    atom,
    constant,
    factorial,
    number_of,
    raised,
    scaled,
    text_of,
    times,
    total,
)

_MAX_CHARS, _MAX_TOKENS, _MAX_DEPTH = 256, 80, 24
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp max min gcd lcm det Re Im".split()
)
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+(?:\.\d+)?|\.\d+)|\\?(?P<name>[A-Za-z]+)|(?P<greek>[\u0370-\u03ff∞°])"
    r"|(?P<command>\\frac|\\sqrt)|(?P<sign>[-+*/^_!(){}\[\]|,±'])|(?P<other>\S))"
)
_LOOKS_LIKE_ONE = re.compile(r"[\d^*/+\\=(_∞π]|^pi$|(?<![a-zA-Z])[a-zA-Z] ?- ?[a-zA-Z](?![a-zA-Z])")
_OPENING = {"(": ")", "{": "}", "[": "]"}


def formula(text: str) -> Polynomial | None:
    """The formula that the text is; None when it is none."""
    if len(text) > _MAX_CHARS or not _LOOKS_LIKE_ONE.search(text):
        return None
    try:
        return _Parser(text).whole()
    except (NoFormula, ZeroDivisionError, OverflowError, RecursionError):
        return None


class _Parser:
    """Recursive descent over the tokens of one text. Raises: NoFormula, ZeroDivisionError."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        for match in islice(_TOKEN.finditer(text.strip()), _MAX_TOKENS + 1):
            kind = match.lastgroup or "other"
            value = match[kind]
            if kind == "name":
                self._tokens += _named(value, is_command=text[match.start(kind) - 1 : match.start(kind)] == "\\")
            else:
                self._tokens.append((kind, value.replace(",", "") if kind == "number" else value))
        if len(self._tokens) > _MAX_TOKENS or any(kind == "other" for kind, _ in self._tokens):
            raise NoFormula
        self._position = 0
        self._depth = 0

    def whole(self) -> Polynomial:
        value = self._sum()
        if self._position != len(self._tokens):
            raise NoFormula
        return value

    def _peek(self) -> str:
        return self._tokens[self._position][1] if self._position < len(self._tokens) else ""

    def _kind(self) -> str:
        return self._tokens[self._position][0] if self._position < len(self._tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self._peek()
        if not token or (expected and token != expected):
            raise NoFormula
        self._position += 1
        return token

    def _sum(self) -> Polynomial:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NoFormula
        value: Polynomial = {}
        sign = 1
        if self._peek() in ("+", "-"):
            sign = -1 if self._take() == "-" else 1
        value = scaled(self._product(), Fraction(sign))
        while self._peek() in ("+", "-"):
            sign = -1 if self._take() == "-" else 1
            value = total(value, scaled(self._product(), Fraction(sign)))
        self._depth -= 1
        return value

    def _product(self, *, of_function: bool = False) -> Polynomial:
        """Factors, one after the other. What a function without brackets is of ends where the next function begins."""
        value = self._power()
        while True:
            token, kind = self._peek(), self._kind()
            if token in ("*", "/"):
                self._take()
                sign = Fraction(-1 if self._peek() == "-" and self._take() else 1)
                factor = scaled(self._power(), sign)
                value = times(value, factor if token == "*" else raised(factor, Fraction(-1)))
            elif of_function and kind == "function":
                return value
            elif kind in ("name", "greek", "command", "function") or token in ("(", "{"):
                value = times(value, self._power())
            else:
                return value

    def _power(self) -> Polynomial:
        value = self._base()
        while self._peek() in ("^", "!", "'"):
            match self._take():
                case "!":
                    value = factorial(value)
                case "'":
                    value = atom(f"({text_of(value)})'")
                case _:
                    value = self._raised(value)
        return value

    def _raised(self, value: Polynomial) -> Polynomial:
        is_negative = self._peek() == "-" and bool(self._take())
        exponent = scaled(self._base(), Fraction(-1 if is_negative else 1))
        number = constant(exponent)
        return atom(f"({text_of(value)})^({text_of(exponent)})") if number is None else raised(value, number)

    def _base(self) -> Polynomial:
        kind, token = self._kind(), self._take()
        match kind:
            case "number":
                return self._number(token)
            case "name" | "greek":
                return atom(token + self._subscript())
            case "function":
                return self._function(token)
            case "command":
                return self._command(token)
        if token in ("(", "{"):
            value = self._sum()
            self._take(_OPENING[token])
            return value
        if token == "|":
            value = self._sum()
            self._take("|")
            return absolute(value)
        raise NoFormula

    def _number(self, token: str) -> Polynomial:
        if len(token) > 60 or (token[0] == "0" and len(token) > 3 and token.isdigit()):
            raise NoFormula
        subscript = self._subscript()
        if self._kind() == "number":
            raise NoFormula  # 2 3 is no product
        return atom(token + subscript) if subscript else number_of(Fraction(token))

    def _subscript(self) -> str:
        if self._peek() != "_":
            return ""
        self._take()
        if self._peek() != "{":
            return "_" + self._take()
        self._take()
        parts = []
        while self._peek() != "}":
            parts.append(self._take())
        self._take("}")
        return "_" + "".join(parts)

    def _function(self, name: str) -> Polynomial:
        power = ""
        if self._peek() == "^":
            self._take()
            power = f"^{text_of(self._base())}"
        name += self._subscript()
        argument = self._sum_in_brackets() if self._peek() == "(" else self._product(of_function=True)
        return atom(f"{name}{power}({text_of(argument)})")

    def _sum_in_brackets(self) -> Polynomial:
        self._take("(")
        value = self._sum()
        self._take(")")
        return value

    def _command(self, token: str) -> Polynomial:
        if token == "\\frac":
            top = self._argument()
            return times(top, raised(self._argument(), Fraction(-1)))
        degree = Fraction(2)
        if self._peek() == "[":
            self._take()
            if (
                self._kind() != "number"
                or not 2 <= (degree := Fraction(self._take())) <= MAX_POWER
                or degree.denominator != 1
            ):
                raise NoFormula
            self._take("]")
        return raised(self._argument(), 1 / degree)

    def _argument(self) -> Polynomial:
        return (
            self._base() if self._peek() in ("{", "(") or self._kind() in ("number", "name", "greek") else self._fail()
        )

    def _fail(self) -> Polynomial:
        raise NoFormula


def _named(word: str, *, is_command: bool) -> list[tuple[str, str]]:
    """A function, π, or a product of variables; a longer word is none of them."""
    if is_command:
        return (
            [("command", "\\" + word)]
            if word in ("frac", "sqrt")
            else [("function" if word in _FUNCTIONS else "other", word)]
        )
    if word in _FUNCTIONS:
        return [("function", word)]
    if word.lower() == "pi":
        return [("greek", "π")]
    if len(word) > 3:
        return [("other", word)]
    return [("name", letter) for letter in word]
