"""What a report is made of: sections with a table each, and bars or curves where a picture says it sooner."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """A value, from 0 to the largest that is plotted, and the interval that it lies in, if one is known."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Values over time, both from 0."""

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A table under a title, with bars that show one of its columns, and curves that all have one scale."""

    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[Bar, ...] = ()
    most: float = 1.0  # at the right end of the bars
    curves: tuple[Curve, ...] = ()
