"""A scatter plot with a logarithmic x axis, as SVG and in characters."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

_WIDTH, _HEIGHT, _MARGIN = 860, 520, 64
_COLUMNS, _LINES = 76, 22
_MARKS = "123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Point:
    """A named point; x is above 0."""

    name: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class _Scale:
    """From a point to its place: shares of width and height, from the lower left corner."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        return (log10(x) - self.x_low) / (self.x_high - self.x_low), (y - self.y_low) / (self.y_high - self.y_low)


def as_svg(points: Sequence[Point], x_label: str, y_label: str) -> str:
    """The plot as an SVG document of its own."""
    scale = _scale(points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for tick in _decades(scale):
        left, bottom = _pixel(scale, tick, scale.y_low)
        parts.append(f'<path d="M{left:.1f} {_MARGIN / 2}V{bottom:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{tick:g}</text>')
    for tick in range(ceil(scale.y_low / 10) * 10, floor(scale.y_high) + 1, 10):
        _, top = _pixel(scale, 10**scale.x_low, tick)
        parts.append(f'<path d="M{_MARGIN} {top:.1f}H{_WIDTH - _MARGIN / 2}" stroke="#ddd"/>')
        parts.append(f'<text x="{_MARGIN - 8}" y="{top + 4:.1f}" text-anchor="end">{tick}</text>')
    for point in points:
        left, top = _pixel(scale, point.x, point.y)
        parts.append(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="4" fill="#1f6feb"/>')
        parts.append(f'<text x="{left + 7:.1f}" y="{top + 4:.1f}">{escape(point.name)}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text transform="translate(18 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text></svg>'
    )
    return "\n".join(parts) + "\n"


def as_text(points: Sequence[Point], x_label: str, y_label: str) -> str:
    """The plot in characters, with a legend; points that fall on one place show the first."""
    scale = _scale(points)
    canvas = [[" "] * _COLUMNS for _ in range(_LINES)]
    for mark, point in zip(_MARKS, points, strict=False):
        across, up = scale.place(point.x, point.y)
        line, column = _LINES - 1 - round(up * (_LINES - 1)), round(across * (_COLUMNS - 1))
        if canvas[line][column] == " ":
            canvas[line][column] = mark
    steps = [scale.y_high - line * (scale.y_high - scale.y_low) / (_LINES - 1) for line in range(_LINES)]
    lines = [f"{step:5.0f} |{''.join(row)}".rstrip() for step, row in zip(steps, canvas, strict=True)]
    low, high = f"{10**scale.x_low:.0f}", f"{10**scale.x_high:.0f}"
    axis = f"      +{'-' * _COLUMNS}\n       {low}{x_label:^{_COLUMNS - len(low) - len(high)}}{high}"
    legend = (f"  {mark}  {point.name}" for mark, point in zip(_MARKS, points, strict=False))
    return "\n".join([y_label, *lines, axis, *legend])


def _scale(points: Sequence[Point]) -> _Scale:
    xs = [log10(point.x) for point in points if point.x > 0] or [0.0]
    ys = [point.y for point in points] or [0.0]
    return _Scale(min(xs) - 0.1, max(xs) + 0.25, max(0.0, min(ys) - 5), min(100.0, max(ys) + 5) + 1e-9)


def _decades(scale: _Scale) -> list[float]:
    powers = range(floor(scale.x_low), ceil(scale.x_high) + 1)
    ticks = (digit * 10.0**power for power in powers for digit in (1, 2, 5))
    return [tick for tick in ticks if scale.x_low <= log10(tick) <= scale.x_high]


def _pixel(scale: _Scale, x: float, y: float) -> tuple[float, float]:
    across, up = scale.place(x, y)
    inner_width, inner_height = _WIDTH - 1.5 * _MARGIN, _HEIGHT - 1.5 * _MARGIN
    return _MARGIN + across * inner_width, _MARGIN / 2 + (1 - up) * inner_height
