"""Expressions in a small part of Python's syntax, computed by a walk of its own over the parsed tree: nothing is ever executed.

sum(x*x for x in range(5))                    ->  30
[n for n in range(20) if n % 7 == 3]          ->  [3, 10, 17]
max(3, 7) if 2 < 3 else 0                     ->  7
__import__('os')                              ->  error: __import__ is no function here
10**10**10                                    ->  error: a number on the way is too large

Numbers are exact fractions. There are texts, lists, conditions, comprehensions, subscripts and the functions of `_FUNCTIONS`; no
names but those, no attributes, no statements. Every node that is walked, every element that is made costs one step of a
budget, and every number and text on the way is bounded, so any argument is answered within milliseconds.
"""

import ast
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from conclave.domain.equivalence.numbers import spelled
from conclave.errors import ConclaveError

MAX_CHARS = 1_000
MAX_STEPS = 10_000
MAX_DEPTH = 200
MAX_BITS = 1_024  # of numerator and denominator
MAX_ITEMS = 2_000
MAX_TEXT_CHARS = 4_000
_SHOWN_CHARS = 1_000

Value = Any  # Fraction, bool, str, or a list of these


class _Wrong(ConclaveError):
    """What is wrong with an expression, in words for the model."""


def evaluate(expression: str) -> str:
    """What the expression is worth, in one line; or `error: …`. Total."""
    if len(expression) > MAX_CHARS:
        return f"error: the expression has {len(expression):,} characters, at most {MAX_CHARS:,} are read"
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return _shown(_Walk().value(tree.body, {}, 0))[:_SHOWN_CHARS]
    except _Wrong as wrong:
        return f"error: {wrong}"
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        told = (
            error.msg if isinstance(error, SyntaxError) else "it is nested too deeply, or holds what no expression may"
        )
        return f"error: this is no expression: {' '.join(str(told).split())}"


class _Walk:
    """One evaluation, with the steps that it has left."""

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def value(self, node: ast.AST, names: Mapping[str, Value], depth: int) -> Value:
        """What a node is worth. Raises: _Wrong."""
        self._pay(1)
        if depth > MAX_DEPTH:
            raise _Wrong(f"nested more than {MAX_DEPTH} deep")
        below = depth + 1
        match node:
            case ast.Constant(value=constant):
                return _constant(constant)
            case ast.Name(id=name):
                if name not in names:
                    raise _Wrong(f"{name[:40]} is no name here")
                return names[name]
            case ast.UnaryOp(op=sign, operand=operand):
                return _signed(sign, self.value(operand, names, below))
            case ast.BinOp(left=left, op=sign, right=right):
                return self._kept(_combined(sign, self.value(left, names, below), self.value(right, names, below)))
            case ast.BoolOp(op=sign, values=values):
                return self._joined(isinstance(sign, ast.And), values, names, below)
            case ast.Compare(left=left, ops=signs, comparators=others):
                return self._compared(left, signs, others, names, below)
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                return self.value(body if self.value(test, names, below) else otherwise, names, below)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return self._kept([self.value(each, names, below) for each in items])
            case ast.ListComp(elt=item, generators=loops) | ast.GeneratorExp(elt=item, generators=loops):
                return self._kept([self.value(item, inner, below) for inner in self._loops(loops, names, below)])
            case ast.Subscript(value=of, slice=at):
                return self._item(self.value(of, names, below), at, names, below)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._called(name, [self.value(each, names, below) for each in arguments])
            case ast.Call(func=ast.Name(id=name)):
                raise _Wrong(f"{name[:40]} takes no named arguments here")
            case _:
                raise _Wrong(f"{type(node).__name__} is nothing that may stand in an expression here")

    def _pay(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _Wrong(f"it takes more than {MAX_STEPS:,} steps")

    def _pay_for(self, value: Value) -> None:
        """Pays for all that a value holds, to any depth: a list of lists is compared as a whole."""
        self._pay(1)
        if isinstance(value, list):
            for each in value:
                self._pay_for(each)

    def _kept(self, value: Value) -> Value:
        """The value, within bounds and paid for."""
        if isinstance(value, list):
            if len(value) > MAX_ITEMS:
                raise _Wrong(f"a list on the way has more than {MAX_ITEMS:,} items")
            self._pay(len(value))
        return _bounded(value)

    def _joined(self, is_and: bool, values: Sequence[ast.AST], names: Mapping[str, Value], depth: int) -> Value:
        value: Value = is_and
        for node in values:
            value = self.value(node, names, depth)
            if bool(value) is not is_and:
                break
        return value

    def _compared(
        self, left: ast.AST, signs: Sequence[ast.AST], others: Sequence[ast.AST], names: Mapping[str, Value], depth: int
    ) -> bool:
        before = self.value(left, names, depth)
        for sign, node in zip(signs, others, strict=True):
            after = self.value(node, names, depth)
            self._pay_for(before)
            self._pay_for(after)
            if not _holds(sign, before, after):
                return False
            before = after
        return True

    def _loops(
        self, loops: Sequence[ast.comprehension], names: Mapping[str, Value], depth: int
    ) -> Iterator[dict[str, Value]]:
        """The names inside of a comprehension, once for each time that its element is made."""
        if not loops:
            yield dict(names)
            return
        first, *rest = loops
        if not isinstance(first.target, ast.Name):
            raise _Wrong("a comprehension runs over one name")
        items = self.value(first.iter, names, depth)
        if not isinstance(items, list | str):
            raise _Wrong("a comprehension runs over a list or a text")
        for each in items:
            self._pay(1)
            inner = {**names, first.target.id: each}
            if all(self.value(test, inner, depth) for test in first.ifs):
                yield from self._loops(rest, inner, depth)

    def _item(self, of: Value, at: ast.AST, names: Mapping[str, Value], depth: int) -> Value:
        if not isinstance(of, list | str):
            raise _Wrong("only a list or a text has items")
        if isinstance(at, ast.Slice):
            ends = [
                None if node is None else _whole(self.value(node, names, depth))
                for node in (at.lower, at.upper, at.step)
            ]
            if ends[2] == 0:
                raise _Wrong("a slice's step is not 0")
            return self._kept(of[slice(*ends)])
        place = _whole(self.value(at, names, depth))
        if not -len(of) <= place < len(of):
            raise _Wrong(f"there is no item {place} of {len(of)}")
        return of[place]

    def _called(self, name: str, arguments: list[Value]) -> Value:
        if name not in _FUNCTIONS:
            raise _Wrong(f"{name[:40]} is no function here; there are: {', '.join(_FUNCTIONS)}")
        for each in arguments:
            self._pay_for(each)
        try:
            return self._kept(_FUNCTIONS[name](*arguments))
        except (TypeError, ValueError, ZeroDivisionError, OverflowError, ArithmeticError, AttributeError):
            raise _Wrong(f"{name} does not take these arguments") from None


def _constant(value: object) -> Value:
    match value:
        case bool() | str():
            return _bounded(value)
        case int():
            return _bounded(Fraction(value))
        case float():
            if not math.isfinite(value) or abs(value) > 1e300 or (value and abs(value) < 1e-300):
                raise _Wrong("a number on the way is too large")
            return Fraction(repr(value))
        case _:
            raise _Wrong(f"{type(value).__name__} is no value here")


def _signed(sign: ast.AST, value: Value) -> Value:
    match sign:
        case ast.Not():
            return not value
        case ast.USub():
            return -_number(value)
        case ast.UAdd():
            return _number(value)
        case _:
            raise _Wrong("~ is no operator here")


def _combined(sign: ast.AST, left: Value, right: Value) -> Value:
    if isinstance(sign, ast.Add) and type(left) is type(right) and isinstance(left, list | str):
        return left + right
    if isinstance(sign, ast.Mult) and isinstance(left, list | str):
        times = _whole(right)
        if len(left) * max(times, 0) > (MAX_ITEMS if isinstance(left, list) else MAX_TEXT_CHARS):
            raise _Wrong("a text or list on the way is too long")
        return left * times
    one, other = _number(left), _number(right)
    match sign:
        case ast.Add():
            return one + other
        case ast.Sub():
            return one - other
        case ast.Mult():
            return one * other
        case ast.Div() | ast.FloorDiv() | ast.Mod() if not other:
            raise _Wrong("division by zero")
        case ast.Div():
            return one / other
        case ast.FloorDiv():
            return Fraction(one // other)
        case ast.Mod():
            return one % other
        case ast.Pow():
            return _raised(one, other)
        case _:
            raise _Wrong(f"{type(sign).__name__} is no operator here")


def _raised(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent == Fraction(1, 2):
        return _root(base)
    if exponent.denominator != 1:
        raise _Wrong("an exponent is a whole number, or 1/2")
    if not base and exponent < 0:
        raise _Wrong("division by zero")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length()) - 1
    if bits * abs(exponent) > MAX_BITS or (bits == 0 and abs(exponent) > MAX_BITS and abs(base) not in (0, 1)):
        raise _Wrong("a number on the way is too large")
    if abs(base) in (0, 1):
        return base if exponent % 2 else (abs(base) if exponent else Fraction(1))
    return Fraction(base ** int(exponent))


def _root(value: Value) -> Fraction:
    """The square root: exact where there is one, else to 12 places."""
    number = _number(value)
    if number < 0:
        raise _Wrong("a negative number has no root here")
    top, bottom = math.isqrt(number.numerator), math.isqrt(number.denominator)
    if top * top == number.numerator and bottom * bottom == number.denominator:
        return Fraction(top, bottom)
    return Fraction(math.isqrt(number.numerator * 10**24 // number.denominator), 10**12)


def _holds(sign: ast.AST, left: Value, right: Value) -> bool:
    match sign:
        case ast.Eq():
            return bool(left == right)
        case ast.NotEq():
            return bool(left != right)
        case ast.In() | ast.NotIn() if isinstance(right, list) or (isinstance(right, str) and isinstance(left, str)):
            return (left in right) is isinstance(sign, ast.In)
    if isinstance(left, str) is not isinstance(right, str) or isinstance(left, list) or isinstance(right, list):
        raise _Wrong("these can't be compared")
    match sign:
        case ast.Lt():
            return bool(left < right)
        case ast.LtE():
            return bool(left <= right)
        case ast.Gt():
            return bool(left > right)
        case ast.GtE():
            return bool(left >= right)
        case _:
            raise _Wrong("these can't be compared")


def _number(value: Value) -> Fraction:
    if isinstance(value, bool | Fraction):
        return Fraction(value)
    raise _Wrong("a number is expected where there is a text or a list")


def _whole(value: Value) -> int:
    number = _number(value)
    if number.denominator != 1:
        raise _Wrong("a whole number is expected")
    return int(number)


def _bounded(value: Value) -> Value:
    if isinstance(value, Fraction) and max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _Wrong("a number on the way is too large")
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
        raise _Wrong("a text on the way is too long")
    return value


def _range(*ends: Value) -> list[Value]:
    found = range(*(_whole(each) for each in ends))
    if len(found) > MAX_ITEMS:
        raise _Wrong(f"a range on the way has more than {MAX_ITEMS:,} items")
    return [Fraction(each) for each in found]


def _several(arguments: Sequence[Value]) -> list[Value]:
    """The arguments of a function that takes a list or several values."""
    found = list(arguments[0]) if len(arguments) == 1 and isinstance(arguments[0], list) else list(arguments)
    if not found:
        raise _Wrong("at least one value is expected")
    return found


def _total(items: Value, start: Value = Fraction(0)) -> Fraction:
    total = _number(start)
    for each in items:
        total = _bounded(total + _number(each))
    return total


def _product(items: Value) -> Fraction:
    product = Fraction(1)
    for each in items:
        product = _bounded(product * _number(each))
    return product


def _small(value: Value, most: int) -> int:
    number = _whole(value)
    if not 0 <= number <= most:
        raise _Wrong(f"a whole number from 0 to {most} is expected")
    return number


def _rounded(value: Value, places: Value = Fraction(0)) -> Fraction:
    return Fraction(round(_number(value), _small(places, 100)))


_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "abs": lambda value: abs(_number(value)),
    "min": lambda *values: min(map(_number, _several(values))),
    "max": lambda *values: max(map(_number, _several(values))),
    "sum": _total,
    "prod": _product,
    "len": lambda items: Fraction(len(items)),
    "range": _range,
    "round": _rounded,
    "floor": lambda value: Fraction(math.floor(_number(value))),
    "ceil": lambda value: Fraction(math.ceil(_number(value))),
    "sqrt": _root,
    "gcd": lambda *values: Fraction(math.gcd(*map(_whole, values))),
    "lcm": lambda *values: Fraction(_lcm(values)),
    "factorial": lambda value: Fraction(math.factorial(_small(value, 200))),
    "comb": lambda n, k: Fraction(math.comb(_small(n, 500), _small(k, 500))),
    "sorted": lambda items: sorted(items),
    "reversed": lambda items: list(reversed(items)),
    "any": lambda items: any(items),
    "all": lambda items: all(items),
}


def _lcm(values: Sequence[Value]) -> int:
    least = 1
    for each in values:
        least = math.lcm(least, _whole(each))
        _bounded(Fraction(least))
    return least


def _shown(value: Value) -> str:
    match value:
        case bool():
            return str(value)
        case Fraction():
            return spelled(value)
        case str():
            return " ".join(value.split()) or repr(value)
        case _:
            items: list[str] = []
            for each in value:
                items.append(_shown(each))
                if sum(map(len, items)) > _SHOWN_CHARS:
                    break
            return f"[{', '.join(items)}]"
