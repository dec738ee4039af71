"""An experiment by segments, and what was observed of its arms in each."""

from collections.abc import Iterable

from conclave.domain.experiments.evidence import Cell, Evidence
from conclave.domain.experiments.reweighting import next_weights
from conclave.testing import events as made
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.experiments import MetricCounts, Mode


def started(**changes: object) -> ExperimentChanged:
    values = {"mode": Mode.REGRET, "max_change": 1.0, "period_s": 1e6, "segment_by": "task"} | changes
    return made.started(made.experiment(**values))


def cell(arm: str, num: int, total: float, *, segment: str = "", version: int = 0, metric: str = "reward") -> Cell:
    counts = MetricCounts(num_units=num, num_observed=num, sum_micro=round(total * 1e6))
    return Cell(metric, arm, version, 0, counts, segment)


def evidence(*cells: Cell) -> Evidence:
    return Evidence(tuple(sorted(cells)), made.NOW_MS)


def versions_of(change: ExperimentChanged, looks: Iterable[Evidence]) -> list[WeightsPublished]:
    versions: list[WeightsPublished] = []
    for number, look in enumerate(looks):
        found = next_weights(change, look, versions[-1] if versions else None, {"reasoning.feedback/0": number})
        assert found is not None
        versions.append(found)
    return versions


# At first both kinds of task are of the rest; then they are named, and differ.
UNNAMED = [cell(arm, 30, total, segment=of) for of in ("sums", "words") for arm, total in (("a", 15), ("b", 15))]

DIFFERENT = [
    cell(arm, 200, total, segment=of, version=1)
    for of, totals in (("sums", (60, 140)), ("words", (140, 60)))
    for arm, total in zip("ab", totals, strict=True)
]

ALIKE = [
    cell(arm, 200, total, segment=of, version=1) for of in ("sums", "words") for arm, total in (("a", 100), ("b", 120))
]
