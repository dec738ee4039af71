"""What the record holds of an experiment, as counts: all that any decision about it needs, whatever their order.

Sums are whole millionths: adding them up gives the same in any order, on any machine.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schemas.experiments import HOLDOUT, Experiment, Metric, MetricCounts

ANSWERED = Metric(name="answered", missing=0.0)
# Metrics that are figures of the answer. Any other name is that of feedback.
FIGURES = ("answered", "within_ms", "within_tokens", "confidence")
LIMITED = ("within_ms", "within_tokens")  # these have a limit, and no other has
SAME_ANSWER = "same_answer"  # of a shadow only
BETTER, WORSE = ".better", ".worse"  # after a metric beside what was served: by how much copies were, summed over pairs

Deal = tuple[int, str]  # units that were drawn by the same shares: version of the weights and segment


@dataclass(frozen=True, slots=True)
class Cell:
    """Units of one arm and segment, assigned by one version of the weights within one period, and what they said of one metric."""

    metric: str
    arm: str
    weights_version: int
    period: int  # of assignment: whole periods since 1970
    counts: MetricCounts
    segment: str = ""  # of the unit's first request; "" also where it is none that is, or may soon be, named

    def __lt__(self, other: "Cell") -> bool:
        return self._place < other._place

    @property
    def _place(self) -> tuple[str, str, str, int, int]:
        return self.metric, self.arm, self.segment, self.weights_version, self.period


@dataclass(frozen=True, slots=True)
class Evidence:
    """The cells of all metrics of an experiment's run, as of a moment."""

    cells: tuple[Cell, ...]
    as_of_ms: int
    spent_micro: int = 0  # millionths of a dollar, by the experiment's shadow on that day

    def of(self, metric: str, arm: str) -> MetricCounts:
        """The counts of an arm, over all versions and periods."""
        return added(cell.counts for cell in self.cells if (cell.metric, cell.arm) == (metric, arm))

    def by_deal(self, metric: str) -> dict[Deal, dict[str, MetricCounts]]:
        """The counts of all arms, the hold-out too, by the version of the weights that assigned them, and segment."""
        found: dict[Deal, dict[str, list[MetricCounts]]] = defaultdict(lambda: defaultdict(list))
        for cell in self.cells:
            if cell.metric == metric:
                found[cell.weights_version, cell.segment][cell.arm].append(cell.counts)
        return {deal: {arm: added(each) for arm, each in arms.items()} for deal, arms in sorted(found.items())}


def added(counts: Iterable[MetricCounts]) -> MetricCounts:
    """The sum of counts, field by field."""
    totals = dict.fromkeys(MetricCounts.__struct_fields__, 0)
    for each in counts:
        for name in totals:
            totals[name] += getattr(each, name)
    return MetricCounts(**totals)


def metrics_of(experiment: Experiment) -> dict[str, Metric]:
    """What is measured of an experiment's units, by key: its goal, whether there was an answer, and its guardrails."""
    metrics = [ANSWERED, experiment.goal, *(each.metric for each in experiment.guardrails)]
    return {key_of(metric): metric for metric in metrics}


def key_of(metric: Metric) -> str:
    """The name under which a metric's counts are kept: two ways to read the same feedback are two metrics."""
    raters = "-".join(sorted(rater.value for rater in metric.raters))
    limit = "" if metric.limit is None else f"{metric.limit:.15g}"
    return ".".join(part for part in (metric.name, raters, limit) if part)


def beside(metric: Metric) -> str:
    """The name under which a metric of a shadow's pairs is kept, of the copies and of what was served."""
    return f"shadow.{key_of(metric)}"


def resolved(metric: Metric, counts: MetricCounts) -> tuple[float, float]:
    """How many units have a final value of the metric, and the sum of it.

    Only units whose window has passed count, quick to speak or not: what is said early is not what is said late, and
    where silence has a worth, nothing is known before its end.
    """
    num, total = float(counts.num_observed), counts.sum_micro / 1e6
    if metric.missing is not None:
        num, total = num + counts.num_missing, total + metric.missing * counts.num_missing
    return num, total


def known(metric: Metric, counts: MetricCounts) -> tuple[float, float]:
    """The same with what was said early, for deciding where to look next; where silence has a worth, without it."""
    num, total = resolved(metric, counts)
    if metric.missing is None:
        num, total = num + counts.num_early, total + counts.early_micro / 1e6
    return num, total


def arms_of(experiment: Experiment) -> Sequence[str]:
    """The arms that are learned about, in alphabetical order."""
    return sorted(experiment.arms)


def totals(experiment: Experiment, evidence: Evidence) -> Mapping[str, dict[str, MetricCounts]]:
    """The counts of each arm, the hold-out too, by metric."""
    arms = [*arms_of(experiment), HOLDOUT]
    return {arm: {key: evidence.of(key, arm) for key in metrics_of(experiment)} for arm in arms}
