"""Sums of products with exact coefficients: `Polynomial`, and how they are added, multiplied and raised to powers.

A polynomial maps monomials to coefficients; a monomial is a product of atoms with exponents: variables, π, prime numbers under
a root (√2), and whatever can't be taken apart (sin(x), 2^x, 1/(x+1)) by its own canonical text. Work is bounded: what would
grow beyond the limits is no formula here.
"""

from fractions import Fraction

from conclave.domain.equivalence.numbers import spelled

Monomial = tuple[tuple[str, Fraction], ...]
Polynomial = dict[Monomial, Fraction]

MAX_POWER = 12
_MAX_TERMS, _MAX_BITS, _MAX_ATOM_CHARS = 64, 256, 512
_MAX_RADICAND = 10**8


class NoFormula(Exception):
    """The text is no formula, or too large a one."""


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
    return total(one, scaled(other, Fraction(-1)))


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


def number_of(value: Fraction) -> Polynomial:
    """A number. Raises: NoFormula when it is too large."""
    if value.numerator.bit_length() > _MAX_BITS or value.denominator.bit_length() > _MAX_BITS:
        raise NoFormula
    return {(): value} if value else {}


def atom(name: str) -> Polynomial:
    """What can't be taken apart, by its name."""
    if len(name) > _MAX_ATOM_CHARS:
        raise NoFormula
    return {((name, Fraction(1)),): Fraction(1)}


def total(one: Polynomial, other: Polynomial) -> Polynomial:
    """The sum."""
    total = dict(one)
    for monomial, value in other.items():
        total[monomial] = total.get(monomial, Fraction(0)) + value
    return _bounded({monomial: value for monomial, value in total.items() if value})


def times(one: Polynomial, other: Polynomial) -> Polynomial:
    """The product. Raises: NoFormula when it has too many terms."""
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


def raised(base: Polynomial, exponent: Fraction) -> Polynomial:
    """The power, expanded where it is whole and small. Raises: NoFormula, ZeroDivisionError."""
    if exponent == 0:
        return number_of(Fraction(1))
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
            return times({reduced: factor}, _number_raised(value, exponent))
    if exponent.denominator == 1 and 1 < exponent <= MAX_POWER:
        result = base
        for _ in range(int(exponent) - 1):
            result = times(result, base)
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
        return number_of(number ** int(exponent))
    if number < 0:
        if exponent.denominator % 2 == 0:
            return atom(f"({spelled(number)})^{exponent}")
        return scaled(_number_raised(-number, exponent), Fraction((-1) ** (exponent.numerator % 2)))
    result: Polynomial = {(): Fraction(1)}
    for part, sign in ((number.numerator, 1), (number.denominator, -1)):
        for prime, multiplicity in _prime_factors(part).items():
            monomial, factor = _product(((f"√{prime}", multiplicity * sign * exponent),), ())
            result = times(result, {monomial: factor})
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


def factorial(value: Polynomial) -> Polynomial:
    """The factorial: exact up to 20."""
    number = constant(value)
    if number is None or number.denominator != 1 or not 0 <= number <= 20:
        return atom(f"({text_of(value)})!")
    product = 1
    for factor in range(2, int(number) + 1):
        product *= factor
    return number_of(Fraction(product))


def absolute(value: Polynomial) -> Polynomial:
    """The absolute value."""
    number = constant(value)
    if number is not None:
        return number_of(abs(number))
    return atom(f"|{text_of(scaled(value, Fraction(-1)) if value[min(value)] < 0 else value)}|")
