"""How the commands print: for a person on a terminal, plainly into a pipe, and never what a hostile text wants."""

from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conclave.domain.printable import in_one_line, printable

__all__ = ["console", "in_one_line", "print_rows", "printable"]

# Wider than any line: into a pipe nothing is folded or cut.
_PIPED_WIDTH = 1 << 20


def console() -> Console:
    """The terminal, or what lines are piped to."""
    found = Console(highlight=False, markup=False, emoji=False)
    return found if found.is_terminal else Console(highlight=False, markup=False, emoji=False, width=_PIPED_WIDTH)


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table: fitted to the terminal, or aligned lines into a pipe."""
    cells = [[in_one_line(cell) for cell in row] for row in rows]
    where = console()
    if where.is_terminal:
        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))
        where.print(table)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for row in [list(columns), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
