"""What figures from 0 to 1 turned out to be worth, as a table that travels in an ask."""

from collections.abc import Sequence


def calibrated(figure: float, points: Sequence[float]) -> float:
    """What a figure turned out to be worth: interpolated between `points`, which stand at even distances over 0..1.

    Without points the figure stays as it is.
    """
    if len(points) < 2:
        return figure
    place = min(max(figure, 0.0), 1.0) * (len(points) - 1)
    below = min(int(place), len(points) - 2)
    return points[below] + (points[below + 1] - points[below]) * (place - below)
