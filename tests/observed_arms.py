"""What was observed of the arms of an experiment, in as few words as a test has."""

from conclave.domain.experiments.evidence import Cell, Evidence
from conclave.testing import events as made
from schemas.events import ExperimentChanged
from schemas.experiments import Experiment, MetricCounts, Mode

DAY_MS = 86_400_000


def observed(num: int, total: float, **counts: int) -> MetricCounts:
    return MetricCounts(num_units=num, num_observed=num, sum_micro=round(total * 1e6), **counts)


def evidence(period: int = 0, as_of_ms: int = made.NOW_MS, **arms: tuple[int, float]) -> Evidence:
    cells = [Cell("reward", arm, 0, period, observed(*counts)) for arm, counts in arms.items()]
    return Evidence(tuple(sorted(cells)), as_of_ms)


def experiment(mode: Mode = Mode.REGRET, **changes: object) -> Experiment:
    return made.experiment(**({"mode": mode, "period_s": 1e6, "max_change": 1.0} | changes))


def started(**changes: object) -> ExperimentChanged:
    return made.started(experiment(**changes))  # type: ignore[arg-type]
