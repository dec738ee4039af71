"""Ten thousand pairs of formulas through the judge of equivalence `math`: none takes longer than its limit.

    python -m benchmarks.equivalence [--pairs 10000]

Formulas are drawn at random from the pieces that models write, sound and broken ones; a third of the pairs is one formula and the
same rewritten. Counted are pairs that were worth asking, those found the same, those out of time, and the longest by the clock.
"""

import random
import time

import click

from benchmarks.measuring import record
from conclave.domain.equivalence.judged import is_worth_asking
from conclave.judges.pool import JudgePool
from conclave.judges.words import WALL_FACTOR

_SEED = 15
_PIECES = [
    *"xy23+-*/^{}()=,e",
    r"\frac",
    r"\sqrt",
    r"\sin",
    r"\cos ",
    r"\ln ",
    r"\pi",
    "10",
    r"\left(",
    r"\right)",
    "!",
    "|",
    "_",
]
_ATOMS = ("x", "y", "2", "3", "7", r"\pi", "e^x", r"\sqrt{2}", r"\sin(x)", r"\ln(y)", "x^2", "(x+1)")


@click.command()
@click.option("--pairs", default=10_000, show_default=True)
@click.option("--limit-s", default=2.0, show_default=True)
def main(pairs: int, limit_s: float) -> None:
    """Measures, prints and records."""
    rng, pool = random.Random(_SEED), JudgePool(limit_s=limit_s)
    num_worth, num_same, drawn, started = 0, 0, 0, time.monotonic()
    try:
        while drawn < pairs:
            one, other = _pair(rng)
            drawn += 1
            if is_worth_asking(one, other):
                num_worth += 1
                num_same += pool.decided(one, other)
            if drawn % 1000 == 0:
                print(
                    f"{drawn} pairs, {num_worth} asked, {num_same} the same, {pool.longest_s:.2f} s the longest",
                    flush=True,
                )
    finally:
        pool.close()
    result = {
        "pairs": pairs,
        "limit_cpu_s": limit_s,
        "asked": num_worth,
        "asked_of_the_judge": pool.num_asked,
        "same": num_same,
        "out_of_time": pool.num_out_of_time,
        "longest_s": round(pool.longest_s, 2),
        "longest_allowed_s": WALL_FACTOR * limit_s,
        "seconds": round(time.monotonic() - started, 1),
    }
    print(result)
    print(record("equivalence", result))


def _pair(rng: random.Random) -> tuple[str, str]:
    if rng.random() < 1 / 3:
        parts = [rng.choice(_ATOMS) for _ in range(rng.randint(2, 4))]
        return "+".join(parts), "+".join(rng.sample(parts, len(parts))) + rng.choice(("", "+0x", "+1-1"))
    return _text(rng), _text(rng)


def _text(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return "".join(rng.choices(_PIECES, k=rng.randint(2, 14)))
    return rng.choice((r"\frac{%s}{%s}", "%s*%s", "(%s)^{%s}", "%s-%s")) % (rng.choice(_ATOMS), rng.choice(_ATOMS))


if __name__ == "__main__":
    main()
