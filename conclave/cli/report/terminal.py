"""A report on a terminal: tables, and bars of block characters, an eighth of a cell exact."""

import math
from collections.abc import Iterator, Sequence

import click

from conclave.cli.output import in_one_line, print_rows
from conclave.cli.report.section import Bar, Section

_WIDTH = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"
_MAX_CHARS = 60


def show(sections: Sequence[Section]) -> None:
    """Prints all sections."""
    for section in sections:
        click.echo(f"\n{section.title}")
        if section.about:
            click.echo(section.about)
        print_rows(section.columns, [[_cut(cell) for cell in row] for row in section.rows])
        for line in lines(section.bars, section.most):
            click.echo(line)


def lines(bars: Sequence[Bar], most: float) -> Iterator[str]:
    """A line a bar, with the interval that its value lies in: `├───┤`."""
    width = max((len(in_one_line(bar.label)) for bar in bars), default=0)
    for bar in bars:
        yield f"  {in_one_line(bar.label):<{width}} ▕{_drawn(bar, most)}▏"


def _drawn(bar: Bar, most: float) -> str:
    if bar.low is not None and bar.high is not None:
        cells = [" "] * _WIDTH
        first, last = _cell(bar.low, most), _cell(bar.high, most)
        cells[first : last + 1] = ["─"] * (last + 1 - first)
        cells[first], cells[last] = "├", "┤"
        cells[_cell(bar.value, most)] = "●"
        return "".join(cells)
    eighths = round(8 * _WIDTH * min(1.0, max(0.0, bar.value / most))) if most > 0 else 0
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_WIDTH)


def _cell(value: float, most: float) -> int:
    return min(_WIDTH - 1, max(0, math.floor(_WIDTH * value / most))) if most > 0 else 0


def _cut(text: str) -> str:
    line = in_one_line(text)
    return line if len(line) <= _MAX_CHARS else line[: _MAX_CHARS - 1] + "…"
