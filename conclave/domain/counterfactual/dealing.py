"""Requests dealt out again by other weights of the experiment that dealt them out: the same draws, other shares."""

from collections.abc import Callable

from conclave.domain.counterfactual.again import RecordedRequest
from conclave.domain.experiments.assignment import allocation_for, arm_at, policy_arm, served
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.values import Policy


def dealt(
    change: ExperimentChanged, weights: WeightsPublished, find: Callable[[str], Policy | None]
) -> Callable[[RecordedRequest], Policy]:
    """By which policy each request of the run would have been served, had `weights` been in force.

    Raises: LookupError naming the arm whose policy is not what the run served.
    """
    experiment, policies = change.definition, dict[str, Policy]()
    for name, arm in experiment.arms.items():
        policy = find(arm.policy)
        if policy is None or arm.policy_digest not in ("", policy.digest):
            raise LookupError(f"arm {name}: there is no policy {arm.policy} as it was in revision {change.revision}")
        policies[name] = policy

    def policy_of(request: RecordedRequest) -> Policy:
        assert request.draw is not None, "every request of a run has one"
        arm = served(experiment, arm_at(allocation_for(weights, request.segment), request.draw)).arm
        return policies[policy_arm(experiment, arm)]

    return policy_of
