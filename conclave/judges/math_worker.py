"""Math-Verify in a process of its own, which a pool kills: `python -m conclave.judges.math_worker LIMIT_S`.

A line in is a JSON array of two answers, a line out 1, 0 or -. It is ready once it has said so. A pair that takes more CPU time
than the limit, or four times as long by the clock, ends the process that answers it: no handler runs, so nothing that SymPy does
can hold it up. Another stands ready at once.

Two formulas are the same if Math-Verify says so both ways round, both parse to the same kind of thing, neither to a bare 0 or to
nothing, and they agree in numbers at three fixed points to 40 digits. Math-Verify alone takes what differs by less than 1e-15
for equal, two equations without a solution too, and an open interval for a pair.
"""

import json
import os
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify
from sympy import Basic, Eq, Expr, FiniteSet, Float, Integer, Interval, Rational, Tuple
from sympy.core.random import seed

from conclave.judges.latex import latex
from conclave.judges.words import OUT_OF_TIME, READY, WALL_FACTOR

_MEMORY_BYTES = 2 << 30
_DIGITS, _TOLERANCE = 50, 1e-40
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
_NUM_POINTS = 3


def main() -> None:
    """Answers until its input ends.

    1. imports what it needs, which takes seconds, once
    2. forks a child, which answers
    3. a child that is gone by a signal has run out of time over its line: says so, and forks the next
    """
    limit_s = float(sys.argv[1])
    are_same("sin(2x)+e^x/y", "2sin(x)cos(x)+e^x/y")  # what is imported on first use is, by now
    print(READY, flush=True)
    while True:
        child = os.fork()
        if not child:
            _serve(limit_s)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return
        print(OUT_OF_TIME, flush=True)


def _serve(limit_s: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    for line in sys.stdin:
        one, other = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, limit_s)
        signal.setitimer(signal.ITIMER_REAL, WALL_FACTOR * limit_s)
        verdict = are_same(one, other)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(int(verdict), flush=True)


def are_same(one: str, other: str) -> bool:
    """Whether two formulas are the same. The same each time: what SymPy draws at random is seeded."""
    seed(0)
    try:
        first, second = _parsed(latex(one)), _parsed(latex(other))
        if first is None or second is None or _kind(first) is not _kind(second) or not _agree(first, second):
            return False
        return _verified(first, second) and _verified(second, first)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        NotImplementedError,
        RecursionError,
        TypeError,
        ValueError,
    ):
        return False  # what SymPy raises over a formula: whatever it is, nobody has shown that it equals another


def _verified(gold: Any, target: Any) -> bool:
    return bool(verify(gold, target, timeout_seconds=None, float_rounding=15))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """What a formula says; None for nothing, for a bare 0 (that is what Math-Verify makes of much that it can't read), and for a
    thing of an unknown kind. Decimals are exact."""
    found = parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
    if len(found) != 1 or not isinstance(found[0], Basic):
        return None
    exact = found[0].xreplace({each: Rational(str(each)) for each in found[0].atoms(Float)})
    return None if _kind(exact) is None or exact == Integer(0) else exact


def _kind(formula: Any) -> type | None:
    return next((kind for kind in (FiniteSet, Tuple, Interval, Eq, Expr) if isinstance(formula, kind)), None)


def _agree(one: Any, other: Any) -> bool:
    """True when both come to the same numbers wherever they are looked at; equations, but for one factor."""
    names = sorted({symbol.name for each in (one, other) for symbol in each.free_symbols})
    ratios = []
    for point in range(_NUM_POINTS):
        values = {
            name: Rational(_PRIMES[(at + point) % len(_PRIMES)], 7 + 2 * point + at) for at, name in enumerate(names)
        }
        mine, others = _numbers(one, values), _numbers(other, values)
        if len(mine) != len(others):
            return False
        if isinstance(one, Eq):
            ratios.append(mine[0] / others[0])
        elif not all(_is_close(a, b) for a, b in zip(mine, others, strict=True)):
            return False
    return all(_is_close(each, ratios[0]) for each in ratios)


def _is_close(a: Any, b: Any) -> bool:
    return bool(abs(a - b) <= _TOLERANCE * max(abs(a), abs(b)))


def _numbers(formula: Any, values: dict[str, Rational]) -> list[Any]:
    match formula:
        case FiniteSet() | Tuple():
            parts: list[Any] = list(formula.args)
        case Interval():
            parts = [formula.start, formula.end]
        case Eq():
            parts = [formula.lhs - formula.rhs]
        case _:
            parts = [formula]
    found = [
        part.xreplace({symbol: values[symbol.name] for symbol in part.free_symbols}).evalf(_DIGITS) for part in parts
    ]
    if not all(each.is_number for each in found):
        raise ValueError("no number")
    return sorted(found, key=str) if isinstance(formula, FiniteSet) else found


if __name__ == "__main__":
    main()
