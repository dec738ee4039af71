"""`/v1/experiments`: what is compared, and what it has shown. For administrators: experiments are of no one tenant."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.responses import Response

from conclave.domain.experiments.evidence import Evidence
from conclave.domain.experiments.reporting import ArmReport, SegmentReport, report
from conclave.domain.experiments.unseen import Standing
from conclave.experiments.changes import began_at, newest
from conclave.store.learning import Watermark
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.experiments import Change
from services.gateway.calls import Call, answered
from services.gateway.errors import ApiError, not_found
from services.gateway.trial_bodies import (
    ExperimentArm,
    ExperimentList,
    ExperimentReport,
    ExperimentSegment,
    ExperimentState,
    SegmentArm,
    ShadowCheck,
)

_PATIENCE_S = 30.0
_STATES = {
    Change.START: "running",
    Change.STOP: "stopped",
    Change.KILL: "killed",
    Change.PROMOTE: "promoted",
}


class Trials(Protocol):
    """What is read: conclave.store.learning.Learning. Every method raises LostDependency."""

    async def changes(self, experiment: str = "") -> list[ExperimentChanged]: ...
    async def versions(self, experiment: str) -> list[WeightsPublished]: ...
    async def evidence(
        self,
        change: ExperimentChanged,
        *,
        since_ms: int,
        as_of_ms: int,
        watermark: Watermark | None = None,
        after: WeightsPublished | None = None,
    ) -> tuple[Evidence, Watermark]: ...


@dataclass(frozen=True, slots=True)
class Experiments:
    """The handlers."""

    trials: Trials

    async def list_(self, call: Call) -> Response:
        """Every experiment that was ever started, by name."""
        changes = await self.trials.changes()
        found = tuple(_state(change, changes) for change in newest(changes).values())
        return answered(ExperimentList(data=found))

    async def report(self, call: Call) -> Response:
        """What one has shown so far. Counting takes its time: 503 where it takes too long."""
        name = call.request.path_params["name"]
        changes = await self.trials.changes(name)
        if not changes:
            raise not_found("no experiment of this name was ever started", "experiment_not_found", "name")
        change = newest(changes)[name]
        try:
            async with asyncio.timeout(_PATIENCE_S):
                since_ms, now_ms = began_at(change, changes), time.time_ns() // 1_000_000
                versions = await self.trials.versions(name)
                last = versions[-1] if versions else None
                evidence, _ = await self.trials.evidence(change, since_ms=since_ms, as_of_ms=now_ms, after=last)
        except TimeoutError:
            raise ApiError(503, "counting takes too long now", "too_slow", headers={"Retry-After": "30"}) from None
        found = report(change, evidence, versions)
        return answered(
            ExperimentReport(
                experiment=_state(change, changes),
                weights_version=found.version,
                winner=found.winner,
                arms=tuple(map(_arm, found.arms)),
                alarms=tuple(mismatch.stage for mismatch in found.mismatches if mismatch.is_alarm),
                phase=found.phase,
                checks=tuple(map(_check, found.checks)),
                segments=tuple(map(_segment, found.segments)),
            )
        )


def _state(change: ExperimentChanged, changes: Sequence[ExperimentChanged]) -> ExperimentState:
    definition = change.definition
    return ExperimentState(
        name=change.experiment,
        status=_STATES[change.change],  # type: ignore[arg-type]
        revision=change.revision,
        mode=definition.mode.value,
        unit=definition.unit,
        goal=definition.goal.name,
        control=definition.control,
        policies={name: arm.policy for name, arm in definition.arms.items()},
        started_at=began_at(change, changes) // 1000,
        changed_at=change.changed_ms // 1000,
        by=change.by,
        why=change.why,
        promoted=change.arm,
    )


def _check(standing: Standing) -> ShadowCheck:
    return ShadowCheck(
        metric=standing.key,
        at_least=standing.check.at_least,
        max_drop=standing.check.max_drop,
        num_pairs=standing.num_pairs,
        mean=standing.mean if standing.num_pairs > standing.num_missing else None,
        served_mean=standing.served_mean if standing.num_pairs > standing.num_missing else None,
        status="holds" if standing.holds else "broken" if standing.is_broken else "open",
    )


def _segment(segment: SegmentReport) -> ExperimentSegment:
    arms = (
        SegmentArm(
            arm=arm.arm,
            share=arm.share,
            num_units=arm.num_units,
            mean=arm.mean if arm.num_resolved else None,
            lower=arm.lower,
            upper=arm.upper,
            probability_best=arm.probability_best,
            borrowed=arm.borrowed,
        )
        for arm in segment.arms
    )
    return ExperimentSegment(segment=segment.segment, winner=segment.winner, arms=tuple(arms))


def _arm(arm: ArmReport) -> ExperimentArm:
    return ExperimentArm(
        arm=arm.arm,
        policy=arm.policy,
        share=arm.share,
        num_units=arm.num_units,
        response_rate=arm.response_rate,
        mean=arm.mean if arm.num_resolved else None,
        lower=arm.lower,
        upper=arm.upper,
        probability_best=arm.probability_best,
        out_by=arm.out_by,
    )
