"""What looks from inside came to, as sections of a report. Pure but for reading what was written."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.load.fitting import settled
from benchmarks.memory.mappings import ANONYMOUS, ARENAS, BRK, FILES
from conclave.cli.report.section import Curve, Section

_HOUR_S = 3600.0
_MOST_TYPES = 5
_CURVES = (BRK, ARENAS, ANONYMOUS, FILES)
_COLUMNS = ("MiB, or a number", "first", "in the middle", "last", "an hour", "flat")

Looks = Sequence[tuple[float, Mapping[str, float]]]  # seconds or whatever goes on, and figures


def inside(folder: Path) -> list[Section]:
    """A section for each process that wrote what it saw into the folder, by its name."""
    return [_section(path.stem, path.read_text()) for path in sorted(folder.glob("*.jsonl"))]


def rows_of(looks: Looks, per: float = _HOUR_S) -> list[tuple[str, ...]]:
    """Each figure at first, in the middle and at last, with its slope over the second half: by how much in `per`."""
    rows = []
    for name in looks[0][1]:
        points = [(at, figures[name]) for at, figures in looks if name in figures]
        fit = settled(points)
        slope = "" if fit is None else f"{per * fit.slope:.1f} ± {per * fit.slope_error:.1f}"
        is_flat = "" if fit is None else "yes" if fit.is_flat else "no"
        middle = points[len(points) // 2][1]
        rows.append((name, *(f"{each:.1f}" for each in (points[0][1], middle, points[-1][1])), slope, is_flat))
    return rows


def _section(name: str, written: str) -> Section:
    said = [json.loads(line) for line in written.splitlines() if line.endswith("}")]
    looks = [(each["at"], each["figures"]) for each in said]
    curves = tuple(
        Curve(figure, tuple((at - looks[0][0], figures[figure]) for at, figures in looks))
        for figure in _CURVES
        if figure in looks[0][1]
    )
    about = f"Of what the allocators hold. {_grown([each['types'] for each in said if 'types' in each])}"
    return Section(f"Inside {name}", about, _COLUMNS, tuple(rows_of(looks)), curves=curves)


def _grown(types: Sequence[Mapping[str, int]]) -> str:
    """Of which types there were more at last than in the middle."""
    if len(types) < 3:
        return ""
    middle, last = types[len(types) // 2], types[-1]
    more = sorted(((num - middle.get(name, 0), name) for name, num in last.items()), reverse=True)[:_MOST_TYPES]
    told = ", ".join(f"{name} {by:+d}" for by, name in more if by > 0)
    return f"Objects since the middle: {told}." if told else "No type has more objects than in the middle."
