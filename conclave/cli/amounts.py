"""Amounts as options: `Amount`. What is no number, or endless, is refused as what is out of range."""

import math
from typing import Any

import click

DAYS = 36_525  # a hundred years: more than any record has


class Amount(click.FloatRange):
    """A finite number within a range: a comparison with NaN is never true, so `FloatRange` lets it pass."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"expected a finite number, got {value!r}", param, ctx)
        return number


def positive(at_most: float | None = None) -> Amount:
    """An amount beyond 0."""
    return Amount(min=0, min_open=True, max=at_most)
