"""Straight lines through what was measured, with their errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from scipy import stats

_NUM_BLOCKS = 10


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


def settled(points: Sequence[tuple[float, float]]) -> Line | None:
    """The line through the means of ten blocks of the second half; None for fewer than twenty points there.

    What grows in steps, as memory does, differs little from one point to the next: a line through all points would call its slope
    far surer than it is. Means of blocks are nearly independent (batch means, Law & Kelton 2000, 9.5.3).
    """
    half = points[len(points) // 2 :]
    size = len(half) // _NUM_BLOCKS
    if size < 2:
        return None
    blocks = [half[at * size : (at + 1) * size] for at in range(_NUM_BLOCKS)]
    return fitted([fmean(x for x, _ in block) for block in blocks], [fmean(y for _, y in block) for block in blocks])


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
