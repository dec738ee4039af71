"""Experiments: what is compared, how traffic moved, how sure it is, and whether all of it can be computed again."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conclave.domain.experiments.evidence import Evidence
from conclave.domain.experiments.history import history
from conclave.domain.experiments.reporting import Report, phase_of
from conclave.domain.experiments.reporting import report as report_of
from conclave.domain.experiments.verification import check_weights
from conclave.experiments.changes import began_at, newest
from conclave.store.learning import Watermark
from schemas.events import ExperimentChanged, WeightsPublished
from services.gateway.pages.figures import Figures, arms_of
from services.gateway.pages.rendering import is_part, problem, render

_MAX_SHOWN_VERSIONS = 200
_PATIENCE_S = 8.0
_NUM_DEVIATIONS = 20


class Trials(Protocol):
    """What these pages read: conclave.store.learning.Learning. Every method raises LostDependency."""

    async def changes(self, experiment: str = "") -> list[ExperimentChanged]:
        """Everything that was done to an experiment, or to all."""
        ...

    async def versions(self, experiment: str) -> list[WeightsPublished]:
        """Every version of its weights, the first one first."""
        ...

    async def evidence(
        self,
        change: ExperimentChanged,
        *,
        since_ms: int,
        as_of_ms: int,
        watermark: Watermark | None = None,
        after: WeightsPublished | None = None,
    ) -> tuple[Evidence, Watermark]:
        """What units have said so far."""
        ...


@dataclass(frozen=True, slots=True)
class Trial:
    """An experiment in the list."""

    change: ExperimentChanged
    since_ms: int


class ExperimentPages:
    """`/experiments` and `/experiments/<name>`."""

    def __init__(self, figures: Figures, trials: Trials | None) -> None:
        self._figures, self._trials = figures, trials
        self.routes: list[BaseRoute] = [
            Route("/experiments", self.list),
            Route("/experiments/{name}", self.one),
            Route("/experiments/{name}/report", self.report),
        ]

    async def list(self, request: Request) -> Response:
        """All experiments, and how arms fared."""
        changes = [] if self._trials is None else await self._trials.changes()
        trials = [Trial(change, began_at(change, changes)) for change in newest(changes).values()]
        return render(request, "experiments.html", trials=trials, groups=arms_of(await self._figures.policies()))

    async def one(self, request: Request) -> Response:
        """One of them: its definition, what was done to it, how its traffic moved, and whether its weights hold together."""
        name = request.path_params["name"]
        changes = [] if self._trials is None else await self._trials.changes(name)
        if self._trials is None or not changes:
            return _unknown(request)
        change, versions = newest(changes)[name], await self._trials.versions(name)
        deviations = [str(each) for each in check_weights(changes, versions)]
        return render(
            request,
            "experiment.html",
            change=change,
            phase=phase_of(change, versions[-1] if versions else None),
            done=list(reversed(history(changes, versions)))[:_MAX_SHOWN_VERSIONS],
            versions=list(reversed(versions[-_MAX_SHOWN_VERSIONS:])),
            num_versions=len(versions),
            deviations=deviations[:_NUM_DEVIATIONS],
            num_deviations=len(deviations),
        )

    async def report(self, request: Request) -> Response:
        """What it has shown so far. Counting takes its time: this part comes when it is there."""
        name = request.path_params["name"]
        changes = [] if self._trials is None else await self._trials.changes(name)
        if self._trials is None or not changes:
            return _unknown(request)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                found: Report | None = await self._counted(self._trials, name, changes)
        except TimeoutError:
            found = None
        return render(request, "report_body.html" if is_part(request) else "report.html", report=found, name=name)

    async def _counted(self, trials: Trials, name: str, changes: Sequence[ExperimentChanged]) -> Report:
        change, versions = newest(changes)[name], await trials.versions(name)
        evidence, _ = await trials.evidence(
            change,
            since_ms=began_at(change, changes),
            as_of_ms=time.time_ns() // 1_000_000,
            after=versions[-1] if versions else None,
        )
        return report_of(change, evidence, versions)


def _unknown(request: Request) -> Response:
    told = "No experiment of this name was ever started, as far as is recorded."
    return problem(request, 404, "No such experiment", told)
