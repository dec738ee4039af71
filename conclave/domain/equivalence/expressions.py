"""Formulas as sums of products, so that equal ones have one form: x^2+1 is 1+x^2, √8 is 2√2, 2+3 is 5.

A polynomial maps monomials to exact coefficients; a monomial is a product of atoms with exponents: variables, π, prime numbers
under a root, and whatever can't be taken apart (sin(x), 2^x, 1/(x+1)) by its own canonical text. Work is bounded: what would
grow beyond the limits is no formula here, and compared as text.
"""

import re
from fractions import Fraction
from itertools import islice

from conclave.domain.equivalence.numbers import spelled

Monomial = tuple[tuple[str, Fraction], ...]
Polynomial = dict[Monomial, Fraction]

_MAX_CHARS, _MAX_TOKENS, _MAX_DEPTH = 256, 80, 24
_MAX_TERMS, _MAX_POWER, _MAX_BITS = 64, 12, 256
_MAX_RADICAND = 10**8
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp max min gcd lcm det Re Im".split()
)
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+(?:\.\d+)?|\.\d+)|\\?(?P<name>[A-Za-z]+)|(?P<greek>[\u0370-\u03ff∞°])"
    r"|(?P<command>\\frac|\\sqrt)|(?P<sign>[-+*/^_!(){}\[\]|,±'])|(?P<other>\S))"
)
_LOOKS_LIKE_ONE = re.compile(r"[\d^*/+\\=(_∞π]|^pi$|(?<![a-zA-Z])[a-zA-Z] ?- ?[a-zA-Z](?![a-zA-Z])")
_OPENING = {"(": ")", "{": "}", "[": "]"}


class NoFormula(Exception):
    """The text is no formula, or too large a one."""


def formula(text: str) -> Polynomial | None:
    """The formula that the text is; None when it is none."""
    if len(text) > _MAX_CHARS or not _LOOKS_LIKE_ONE.search(text):
        return None
    try:
        return _Parser(text).whole()
    except (NoFormula, ZeroDivisionError, OverflowError, RecursionError):
        return None


def constant(polynomial: Polynomial) -> Fraction | None:
    """The number that the polynomial is; None when it is none."""
    if not polynomial:
        return Fraction(0)
    return polynomial[()] if len(polynomial) == 1 and () in polynomial else None


def scaled(polynomial: Polynomial, factor: Fraction) -> Polynomial:
    """The polynomial times a number."""
    return {monomial: value * factor for monomial, value in polynomial.items()}


def minus(one: Polynomial, other: Polynomial) -> Polynomial:
    """The difference."""
    return _sum(one, scaled(other, Fraction(-1)))


def normalised(polynomial: Polynomial) -> Polynomial:
    """The polynomial divided by its first coefficient, so that an equation has one form."""
    return scaled(polynomial, 1 / polynomial[min(polynomial)]) if polynomial else polynomial


def text_of(polynomial: Polynomial) -> str:
    """The canonical text."""
    terms = [
        f"{spelled(value)}{''.join(f'·{atom}^{power}' for atom, power in monomial)}"
        for monomial, value in sorted(polynomial.items())
    ]
    return "+".join(terms) or "0"


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
            value = _sum(value, scaled(self._product(), Fraction(sign)))
        self._depth -= 1
        return value

    def _product(self) -> Polynomial:
        value = self._power()
        while True:
            token, kind = self._peek(), self._kind()
            if token in ("*", "/"):
                self._take()
                sign = Fraction(-1 if self._peek() == "-" and self._take() else 1)
                factor = scaled(self._power(), sign)
                value = _times(value, factor if token == "*" else _raised(factor, Fraction(-1)))
            elif kind in ("name", "greek", "command", "function") or token in ("(", "{"):
                value = _times(value, self._power())
            else:
                return value

    def _power(self) -> Polynomial:
        value = self._base()
        while self._peek() in ("^", "!", "'"):
            match self._take():
                case "!":
                    value = _factorial(value)
                case "'":
                    value = _atom(f"({text_of(value)})'")
                case _:
                    value = self._raised(value)
        return value

    def _raised(self, value: Polynomial) -> Polynomial:
        is_negative = self._peek() == "-" and bool(self._take())
        exponent = scaled(self._base(), Fraction(-1 if is_negative else 1))
        number = constant(exponent)
        return _atom(f"({text_of(value)})^({text_of(exponent)})") if number is None else _raised(value, number)

    def _base(self) -> Polynomial:
        kind, token = self._kind(), self._take()
        match kind:
            case "number":
                return self._number(token)
            case "name" | "greek":
                return _atom(token + self._subscript())
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
            return _absolute(value)
        raise NoFormula

    def _number(self, token: str) -> Polynomial:
        if len(token) > 60 or (token[0] == "0" and len(token) > 3 and token.isdigit()):
            raise NoFormula
        subscript = self._subscript()
        if self._kind() == "number":
            raise NoFormula  # 2 3 is no product
        return _atom(token + subscript) if subscript else _constant(Fraction(token))

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
        argument = self._sum_in_brackets() if self._peek() == "(" else self._product()
        return _atom(f"{name}{power}({text_of(argument)})")

    def _sum_in_brackets(self) -> Polynomial:
        self._take("(")
        value = self._sum()
        self._take(")")
        return value

    def _command(self, token: str) -> Polynomial:
        if token == "\\frac":
            top = self._argument()
            return _times(top, _raised(self._argument(), Fraction(-1)))
        degree = Fraction(2)
        if self._peek() == "[":
            self._take()
            if (
                self._kind() != "number"
                or not 2 <= (degree := Fraction(self._take())) <= _MAX_POWER
                or degree.denominator != 1
            ):
                raise NoFormula
            self._take("]")
        return _raised(self._argument(), 1 / degree)

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


def _constant(value: Fraction) -> Polynomial:
    if value.numerator.bit_length() > _MAX_BITS or value.denominator.bit_length() > _MAX_BITS:
        raise NoFormula
    return {(): value} if value else {}


def _atom(name: str) -> Polynomial:
    if len(name) > 2 * _MAX_CHARS:
        raise NoFormula
    return {((name, Fraction(1)),): Fraction(1)}


def _sum(one: Polynomial, other: Polynomial) -> Polynomial:
    total = dict(one)
    for monomial, value in other.items():
        total[monomial] = total.get(monomial, Fraction(0)) + value
    return _bounded({monomial: value for monomial, value in total.items() if value})


def _times(one: Polynomial, other: Polynomial) -> Polynomial:
    if len(one) * len(other) > 4 * _MAX_TERMS:
        raise NoFormula
    total: Polynomial = {}
    for left, a in one.items():
        for right, b in other.items():
            monomial, factor = _product(left, right)
            total[monomial] = total.get(monomial, Fraction(0)) + a * b * factor
    return _bounded({monomial: value for monomial, value in total.items() if value})


def _product(left: Monomial, right: Monomial) -> tuple[Monomial, Fraction]:
    """The product of two monomials, roots of primes reduced: √2·√2 is 2."""
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, Fraction(0)) + power
    factor = Fraction(1)
    for atom, power in powers.items():
        if atom.startswith("√") and not 0 <= power < 1:
            whole = power.numerator // power.denominator
            if abs(whole) > _MAX_BITS:
                raise NoFormula
            factor *= Fraction(int(atom[1:])) ** whole
            powers[atom] = power - whole
    return tuple(sorted((atom, power) for atom, power in powers.items() if power)), factor


def _bounded(polynomial: Polynomial) -> Polynomial:
    is_large = any(
        max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS for value in polynomial.values()
    )
    if len(polynomial) > _MAX_TERMS or is_large:
        raise NoFormula
    return polynomial


def _raised(base: Polynomial, exponent: Fraction) -> Polynomial:
    if exponent == 0:
        return _constant(Fraction(1))
    if abs(exponent) > 200 or exponent.denominator > 12:
        raise NoFormula
    if (number := constant(base)) is not None:
        return _number_raised(number, exponent)
    if len(base) == 1:
        ((monomial, value),) = base.items()
        is_exact = (
            exponent.denominator == 1
            or (exponent.denominator % 2 and value > 0)
            or (value > 0 and all(a[0] == "√" for a, _ in monomial))
        )
        if is_exact:
            raised = tuple((atom, power * exponent) for atom, power in monomial)
            reduced, factor = _product(raised, ())
            return _times({reduced: factor}, _number_raised(value, exponent))
    if exponent.denominator == 1 and 1 < exponent <= _MAX_POWER:
        result = base
        for _ in range(int(exponent) - 1):
            result = _times(result, base)
        return result
    if exponent == 1:
        return base
    if exponent == -1 and len(base) > 1:
        leading = base[min(base)]
        return scaled({((f"({text_of(normalised(base))})", Fraction(-1)),): Fraction(1)}, 1 / leading)
    return {((f"({text_of(base)})", exponent),): Fraction(1)}


def _number_raised(number: Fraction, exponent: Fraction) -> Polynomial:
    """A power of a number: exact for whole exponents, else with primes under a root."""
    if exponent.denominator == 1:
        if abs(exponent) * max(number.numerator.bit_length(), number.denominator.bit_length()) > _MAX_BITS:
            raise NoFormula
        return _constant(number ** int(exponent))
    if number < 0:
        if exponent.denominator % 2 == 0:
            return _atom(f"({spelled(number)})^{exponent}")
        return scaled(_number_raised(-number, exponent), Fraction((-1) ** (exponent.numerator % 2)))
    result: Polynomial = {(): Fraction(1)}
    for part, sign in ((number.numerator, 1), (number.denominator, -1)):
        for prime, times in _prime_factors(part).items():
            monomial, factor = _product(((f"√{prime}", times * sign * exponent),), ())
            result = _times(result, {monomial: factor})
    return result if number else {}


def _prime_factors(number: int) -> dict[int, int]:
    """Prime factors up to 10^4, and what is left as one. Raises: NoFormula for what is too large to try."""
    if number > _MAX_RADICAND:
        raise NoFormula
    factors: dict[int, int] = {}
    candidate = 2
    while candidate * candidate <= number:
        while number % candidate == 0:
            number //= candidate
            factors[candidate] = factors.get(candidate, 0) + 1
        candidate += 1
    if number > 1:
        factors[number] = factors.get(number, 0) + 1
    return factors


def _factorial(value: Polynomial) -> Polynomial:
    number = constant(value)
    if number is None or number.denominator != 1 or not 0 <= number <= 20:
        return _atom(f"({text_of(value)})!")
    product = 1
    for factor in range(2, int(number) + 1):
        product *= factor
    return _constant(Fraction(product))


def _absolute(value: Polynomial) -> Polynomial:
    number = constant(value)
    if number is not None:
        return _constant(abs(number))
    return _atom(f"|{text_of(scaled(value, Fraction(-1)) if value[min(value)] < 0 else value)}|")
