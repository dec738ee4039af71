"""An experiment whose evidence is recorded, and what is read of it."""

from typing import Any

from conclave.domain.experiments.evidence import Evidence
from conclave.testing import events as made
from schemas.experiments import Guardrail, Metric, Rater
from tests.record_of_events import NOW_MS, Recorded

WINDOW_S = 100.0
CLICKED = Metric(name="clicked", missing=0.0)
QUICK = Metric(name="within_ms", limit=100.0, missing=0.0)
EXPERTS = Metric(raters=(Rater.EXPERT,))
TRIAL = made.experiment(
    window_s=WINDOW_S,
    guardrails=tuple(Guardrail(metric=each, at_least=0.5) for each in (CLICKED, QUICK, EXPERTS)),
)
CHANGE = made.started(TRIAL, changed_ms=NOW_MS - 3_600_000)


async def evidence_of(record: Recorded, **how: Any) -> Evidence:
    found, _ = await record.learning.evidence(CHANGE, since_ms=CHANGE.changed_ms, as_of_ms=NOW_MS, **how)
    return found


OLD_S = 2 * WINDOW_S  # a request whose window has passed
