"""The frontier of ways of voting, drawn: what each costs, and what it loses."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 60, 14
_MARKS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Point:
    """A way of voting: mean samples, and what it changes in points with its 95 % interval."""

    name: str
    samples: float
    change: float
    low: float
    high: float


def on_frontier(points: Sequence[Point]) -> list[Point]:
    """Those that none beats, by fewer samples and no less accuracy; the cheapest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.samples, -each.change)):
        if not best or point.change > best[-1].change:
            best.append(point)
    return best


def mark(number: int) -> str:
    """The letter of the way with this number."""
    return _MARKS[number % len(_MARKS)]


def plot(points: Sequence[Point]) -> list[str]:
    """The plot as lines of text; each way is its letter, in capitals or not as `mark` has it."""
    scale = _Scale(points, _WIDTH - 1, _HEIGHT - 1)
    grid = [[" "] * _WIDTH for _ in range(_HEIGHT)]
    for number, point in reversed(list(enumerate(points))):
        column, row = scale.place(point.samples, point.change)
        grid[round(row)][round(column)] = mark(number)
    labels = {0: f"{scale.top:+.2f}", _HEIGHT - 1: f"{scale.bottom:+.2f}"}
    lines = ["points against the full vote"]
    lines += [f"{labels.get(at, ''):>7} │{''.join(row).rstrip()}" for at, row in enumerate(grid)]
    lines.append(f"{'':>7} └{'─' * _WIDTH}")
    right = f"{scale.right:.1f} samples"
    lines.append(f"{'':>9}{scale.left:<.1f}{right:>{_WIDTH - len(f'{scale.left:.1f}')}}")
    return lines


def svg(points: Sequence[Point], title: str) -> str:
    """The plot as an SVG document, with intervals and the frontier as a line."""
    width, height, margin = 720, 420, 60
    low = Point("", 0.0, min((each.low for each in points), default=0.0), 0.0, 0.0)
    high = Point("", 0.0, max((each.high for each in points), default=0.0), 0.0, 0.0)
    scale = _Scale([*points, low, high], width - 2 * margin - 120, height - 2 * margin)

    def at(samples: float, change: float) -> tuple[float, float]:
        column, row = scale.place(samples, change)
        return round(margin + column, 1), round(margin + row, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{margin}" y="24" font-size="15">{escape(title)}</text>',
    ]
    parts += _axes(at, scale)
    line = " ".join(f"{x},{y}" for x, y in (at(each.samples, each.change) for each in on_frontier(points)))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#888" stroke-dasharray="4 3"/>')
    for point in points:
        x, y = at(point.samples, point.change)
        below, above = at(point.samples, point.low)[1], at(point.samples, point.high)[1]
        parts.append(f'<line x1="{x}" y1="{below}" x2="{x}" y2="{above}" stroke="#9ab"/>')
        parts.append(f'<circle cx="{x}" cy="{y}" r="4" fill="#146"/>')
        parts.append(f'<text x="{x + 7}" y="{y + 4}">{escape(point.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


class _Scale:
    """From samples and points to a place on the paper, the origin above left."""

    def __init__(self, points: Sequence[Point], width: float, height: float) -> None:
        self._width, self._height = width, height
        samples, changes = [each.samples for each in points], [each.change for each in points]
        self.left, self.right = 0.0, max(samples, default=0.0) or 1.0
        self.bottom, self.top = min([*changes, 0.0]), max([*changes, 0.0])
        if self.bottom == self.top:
            self.bottom -= 1.0

    def place(self, samples: float, change: float) -> tuple[float, float]:
        column = (samples - self.left) / (self.right - self.left) * self._width
        return column, (self.top - change) / (self.top - self.bottom) * self._height


def _axes(at, scale: _Scale) -> list[str]:  # type: ignore[no-untyped-def]
    (left, top), (right, bottom) = at(scale.left, scale.top), at(scale.right, scale.bottom)
    zero = at(0.0, 0.0)[1]
    return [
        f'<line x1="{left}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="black"/>',
        f'<line x1="{left}" y1="{top}" x2="{left}" y2="{bottom}" stroke="black"/>',
        f'<line x1="{left}" y1="{zero}" x2="{right}" y2="{zero}" stroke="#ddd"/>',
        f'<text x="{left - 6}" y="{zero + 4}" text-anchor="end">0</text>',
        f'<text x="{left - 6}" y="{bottom + 4}" text-anchor="end">{scale.bottom:+.1f}</text>',
        f'<text x="{left - 6}" y="{top + 4}" text-anchor="end">{scale.top:+.1f}</text>',
        f'<text x="{right}" y="{bottom + 18}" text-anchor="end">{scale.right:.1f} samples</text>',
        f'<text x="{left}" y="{top - 10}">points of accuracy against the full vote</text>',
    ]
