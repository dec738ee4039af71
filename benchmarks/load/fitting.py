"""Straight lines through what was measured, with their errors."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True, slots=True)
class Line:
    """y = slope · x + intercept by least squares, each with its standard error, and the share of variance that it explains."""

    slope: float
    slope_error: float
    intercept: float
    intercept_error: float
    r_squared: float
    num_points: int

    @property
    def is_flat(self) -> bool:
        """True where a slope of 0 is within two standard errors."""
        return abs(self.slope) <= 2 * self.slope_error


def fitted(xs: Sequence[float], ys: Sequence[float]) -> Line | None:
    """The line through the points; None for fewer than three, or where all have one x."""
    if len(xs) < 3 or min(xs) == max(xs):
        return None
    if min(ys) == max(ys):  # no variance to explain, and none left
        return Line(0.0, 0.0, float(ys[0]), 0.0, 1.0, len(xs))
    found = stats.linregress(xs, ys)
    r_squared = float(found.rvalue) ** 2
    return Line(
        float(found.slope),
        float(found.stderr),
        float(found.intercept),
        float(found.intercept_stderr),
        r_squared,
        len(xs),
    )
