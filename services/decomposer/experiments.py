"""The experiments that a decomposer knows of, and the arms of their requests."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from conclave.domain.experiments.assignment import (
    allocation_of,
    arm_at,
    draw,
    is_counted,
    policy_arm,
    segment_of,
    served,
    unit_of,
)
from conclave.domain.experiments.phases import in_force
from schemas.events import Event, ExperimentChanged, PlanMade, ReasoningRequested, WeightsPublished
from schemas.experiments import HOLDOUT, Assignment, Change, Experiment
from schemas.values import Policy

FindPolicy = Callable[[str], Policy | None]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Assigned:
    """The policy that a request is served by, and what its plan says of how that came about."""

    policy: Policy
    arm: str
    propensity: float
    weights_version: int | None
    assignment: Assignment | None
    reasons: dict[str, str]
    is_compared: bool = False  # with what other arms serve: then it is always thought about
    shadow: Policy | None = None  # that answers a copy of the request, unseen

    def noted_in(self, plan: PlanMade) -> dict[str, object]:
        """The fields of the plan that change."""
        return {
            "arm": self.arm,
            "propensity": self.propensity,
            "weights_version": self.weights_version,
            "assignment": self.assignment,
            "reasons": plan.reasons | self.reasons,
        }


class Experiments:
    """What was heard of experiments and their weights: of each, the newest."""

    def __init__(self, find_policy: FindPolicy) -> None:
        self._find = find_policy
        self._changes: dict[str, ExperimentChanged] = {}
        self._weights: dict[str, WeightsPublished] = {}
        self._unavailable: dict[str, str] = {}  # experiment -> why it is left out here

    def hear(self, event: Event) -> None:
        """Takes note of a change or of weights; what is older than what is known is passed over."""
        match event:
            case ExperimentChanged():
                known = self._changes.get(event.experiment)
                if known is None or event.revision >= known.revision:
                    self._changes[event.experiment] = event
                    log.info("experiment_changed", experiment=event.experiment, change=event.change.value, by=event.by)
            case WeightsPublished():
                weights = self._weights.get(event.experiment)
                if weights is None or event.version >= weights.version:
                    self._weights[event.experiment] = event
            case _:
                pass

    def assigned(self, request: ReasoningRequested, request_id: str, now_ms: int) -> Assigned | None:
        """The arm of a request that names no policy, by the first experiment that it takes part in; None without one."""
        for name in sorted(self._changes):
            found = self._assigned(self._changes[name], request, request_id, now_ms)
            if found is not None:
                return found
        return None

    def status(self) -> dict[str, object]:
        """What /ready says: the version of the weights of each experiment that assigns, and what is left out and why."""
        running = [name for name, each in self._changes.items() if each.change in (Change.START, Change.PROMOTE)]
        told: dict[str, object] = {"experiments": {name: self._version(name) for name in sorted(running)}}
        if self._unavailable:
            told["experiments_left_out"] = dict(self._unavailable)
        return told

    def _version(self, name: str) -> int:
        """Of the weights that are in force."""
        change = self._changes[name]
        return allocation_of(change.definition, change.revision, self._weights.get(name))[0]

    def _assigned(
        self, change: ExperimentChanged, request: ReasoningRequested, request_id: str, now_ms: int
    ) -> Assigned | None:
        if change.change not in (Change.START, Change.PROMOTE):
            return None
        experiment = change.definition
        unit = unit_of(experiment, request, request_id)
        policies = self._policies(experiment) if unit is not None else None
        if unit is None or policies is None:
            return None
        reasons = {"experiment": experiment.name}
        if change.arm is not None:
            return Assigned(policies[change.arm], change.arm, 1.0, None, None, reasons | {"change": "promoted"})
        weights = self._weights.get(experiment.name)
        segment = segment_of(experiment, request)
        version, allocation = allocation_of(experiment, change.revision, weights, segment)
        drawn = draw(experiment, unit)
        found = arm_at(allocation, drawn)
        as_it_is = in_force(change, weights)
        arm = served(as_it_is, found)
        assignment = Assignment(
            experiment=experiment.name, revision=change.revision, unit=unit, draw=drawn, segment=segment
        )
        policy = policies[policy_arm(experiment, arm.arm)]
        is_copied = found.arm not in (arm.arm, HOLDOUT) and is_counted(change, weights, now_ms)
        return Assigned(
            policy,
            arm.arm,
            arm.propensity,
            version,
            assignment,
            reasons,
            is_compared=as_it_is.shadow is None,
            shadow=policies[found.arm] if is_copied else None,
        )

    def _policies(self, experiment: Experiment) -> dict[str, Policy] | None:
        """The policy of each arm; None where any is not what the experiment began with: then nobody takes part here."""
        policies: dict[str, Policy] = {}
        for name, arm in experiment.arms.items():
            policy = self._find(arm.policy)
            if policy is None or arm.policy_digest not in ("", policy.digest):
                self._leave_out(experiment.name, f"arm {name}: no policy {arm.policy} of digest {arm.policy_digest}")
                return None
            policies[name] = policy
        self._unavailable.pop(experiment.name, None)
        return policies

    def _leave_out(self, experiment: str, why: str) -> None:
        if self._unavailable.get(experiment) != why:
            self._unavailable[experiment] = why
            log.error("experiment_left_out", experiment=experiment, why=why)
