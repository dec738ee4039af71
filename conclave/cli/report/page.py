"""A report as one HTML file that needs nothing but itself: styles within, plots as SVG, no script."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape

from conclave.cli.output import printable
from conclave.cli.report.section import Bar, Curve, Section

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #5b6470; --line: #d9dee4; --sunk: #f3f5f7; --bar: #2f7d5b;
  --page: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7eaee; --soft: #9aa4b0; --line: #333b45; --sunk: #1d2228; --bar: #5dbb90; --page: #14181c; }
}
body { margin: 0 auto; max-width: 1080px; padding: 24px 16px 64px; background: var(--page); color: var(--ink);
       font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 4px; } p { color: var(--soft); margin: 0 0 10px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 560; color: var(--soft); } td { overflow-wrap: anywhere; max-width: 34ch; }
svg { width: 100%; height: auto; background: var(--sunk); border-radius: 8px; margin: 10px 0; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .soft { fill: var(--soft); }
svg .bar, svg .dot { fill: var(--bar); } svg .span { stroke: var(--bar); stroke-width: 2; } svg .grid { stroke: var(--line); }
"""
_ROW, _LEFT, _RIGHT, _WIDTH = 24, 200, 960, 1000  # pixels
_HEIGHT = 220


def html(sections: Sequence[Section], *, since: datetime, now: datetime) -> str:
    """The report of what was asked."""
    span = f"Requests asked from {since:%Y-%m-%d %H:%M} to {now:%Y-%m-%d %H:%M} (UTC)."
    return document("Report", span, sections)


def document(title: str, about: str, sections: Sequence[Section]) -> str:
    """The file. Whatever users and models wrote is text in it, and nothing else."""
    body = "\n".join(line for section in sections for line in _section(section))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Conclave: {_text(title.lower())}</title><style>{_STYLE}</style></head>
<body><main><h1>{_text(title)}</h1><p>{_text(about)}</p>
{body or "<p>Nothing was asked.</p>"}
</main></body></html>
"""


def _section(section: Section) -> Iterator[str]:
    yield f"<section><h2>{_text(section.title)}</h2>"
    if section.about:
        yield f"<p>{_text(section.about)}</p>"
    if section.bars:
        yield from _plot(section.bars, section.most, section.title)
    if section.curves:
        yield from _curves(section.curves, section.title)
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f'<th scope="col">{_text(column)}</th>' for column in section.columns)
    yield "</tr></thead><tbody>"
    for row in section.rows:
        yield "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>"
    yield "</tbody></table></div></section>"


def _plot(bars: Sequence[Bar], most: float, title: str) -> Iterator[str]:
    """Bars from the left, or a dot on the span that its value lies in; the table below says the same in figures."""
    height = _ROW * len(bars) + 16
    yield f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{_text(title)}, drawn">'
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        yield f'<line class="grid" x1="{_x(share):.1f}" x2="{_x(share):.1f}" y1="8" y2="{height - 8}"/>'
    for place, bar in enumerate(bars):
        y = 8 + _ROW * place + _ROW / 2
        label = bar.label if len(bar.label) <= 26 else bar.label[:25] + "…"
        yield f'<text x="{_LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{_text(label)}</text>'
        x = _x(bar.value / most if most > 0 else 0.0)
        if bar.low is not None and bar.high is not None:
            ends = f'x1="{_x(bar.low / most):.1f}" x2="{_x(bar.high / most):.1f}"'
            yield f'<line class="span" {ends} y1="{y:.1f}" y2="{y:.1f}"/><circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
        else:
            yield f'<rect class="bar" x="{_LEFT}" y="{y - 6:.1f}" width="{max(0.0, x - _LEFT):.1f}" height="12" rx="3"/>'
    yield "</svg>"


def _curves(curves: Sequence[Curve], title: str) -> Iterator[str]:
    """A line each, named at its end; the same scale for all, which the largest value fills."""
    points = [point for curve in curves for point in curve.points]
    last, most = max((x for x, _ in points), default=0.0) or 1.0, max((y for _, y in points), default=0.0) or 1.0
    yield f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 30}" role="img" aria-label="{_text(title)}, over time">'
    for share in (0.0, 0.5, 1.0):
        y = 10 + _HEIGHT * (1 - share)
        yield f'<line class="grid" x1="60" x2="{_RIGHT - 120}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="soft" x="54" y="{y + 4:.1f}" text-anchor="end">{share * most:.3g}</text>'
    for place, curve in enumerate(curves):
        hue = 360 * place / len(curves)
        at = [(60 + (_RIGHT - 180) * x / last, 10 + _HEIGHT * (1 - y / most)) for x, y in curve.points]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        yield f'<polyline points="{drawn}" fill="none" stroke-width="1.6" style="stroke:hsl({hue:.0f} 55% 50%)"/>'
        if at:
            yield f'<text x="{at[-1][0] + 6:.1f}" y="{at[-1][1] + 4:.1f}">{_text(curve.label)}</text>'
    yield f'<text class="soft" x="{_RIGHT - 120}" y="{_HEIGHT + 26}" text-anchor="end">{last:.0f} s</text></svg>'


def _x(share: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * min(1.0, max(0.0, share))


def _text(text: str) -> str:
    return escape(printable(text))
