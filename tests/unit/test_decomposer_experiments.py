"""A decomposer in an experiment: who is assigned, what the plan says of it, and what ends it."""

from collections import Counter

import pytest
from msgspec.structs import replace

from conclave.domain.experiments.assignment import arm_at, draw
from conclave.experiments import pinned
from conclave.policies import shipped
from conclave.policies.current import CurrentPolicies
from conclave.runtime.handler import Arrival
from conclave.testing import events as made
from schemas.events import PlanMade, ReasoningRequested, SampleRequested, WeightsPublished
from schemas.experiments import HOLDOUT, Arm, Change
from schemas.ids import derived_request_id
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings

TRIAL = pinned(made.experiment(), shipped())


@pytest.fixture
def decomposer() -> Decomposer:
    return Decomposer(DecomposerSettings(), CurrentPolicies("default"))


async def planned(decomposer: Decomposer, number: int = 0, **fields: object) -> PlanMade:
    request_id = derived_request_id(made.NOW_MS - 50, f"request {number}")
    request = ReasoningRequested(question="2+2?", request_id=request_id, **fields)  # type: ignore[arg-type]
    arrival = Arrival("event", request_id, made.NOW_MS, made.NOW_MS, "reasoning.requests/0/42")
    plan, *samples = await decomposer.handle(request, arrival)
    assert isinstance(plan, PlanMade)
    assert {sample.context.arm for sample in samples if isinstance(sample, SampleRequested)} == {plan.arm}
    return plan


async def test_nothing_is_assigned_before_an_experiment_starts(decomposer: Decomposer) -> None:
    plan = await planned(decomposer)
    assert (plan.arm, plan.propensity, plan.assignment, plan.weights_version) == ("default", 1.0, None, None)


async def test_a_plan_holds_all_that_it_takes_to_assign_it_again(decomposer: Decomposer) -> None:
    decomposer.hear(made.started(TRIAL, revision=3))
    decomposer.hear(
        WeightsPublished(experiment="trial", version=9, revision=3, allocation={"a": 0.25, "b": 0.65, HOLDOUT: 0.1})
    )
    policies = {"a": "default", "b": "single", HOLDOUT: "default"}
    seen = Counter[str]()
    for number in range(60):
        plan = await planned(decomposer, number)
        assert plan.assignment is not None
        assert (plan.assignment.experiment, plan.assignment.revision, plan.weights_version) == ("trial", 3, 9)
        assert plan.assignment.draw == draw(TRIAL, plan.assignment.unit)
        again = arm_at({"a": 0.25, "b": 0.65, HOLDOUT: 0.1}, plan.assignment.draw)
        assert (plan.arm, plan.propensity, plan.policy.name) == (again.arm, again.propensity, policies[plan.arm])
        assert plan.reasons == {"experiment": "trial"}
        seen[plan.arm] += 1
    assert len(seen) == 3


async def test_a_user_keeps_the_arm_over_all_requests(decomposer: Decomposer) -> None:
    decomposer.hear(made.started(pinned(made.experiment(unit="user"), shipped())))
    for user in ("ann", "bob", "eve"):
        assert len({(await planned(decomposer, number, tags={"user": user})).arm for number in range(8)}) == 1


async def test_a_request_that_names_its_policy_takes_no_part(decomposer: Decomposer) -> None:
    decomposer.hear(made.started(TRIAL))
    plan = await planned(decomposer, policy="single")
    assert (plan.policy.name, plan.arm, plan.assignment) == ("single", "default", None)


@pytest.mark.parametrize("change", [Change.STOP, Change.KILL])
async def test_the_request_after_a_kill_goes_by_the_default_policy(decomposer: Decomposer, change: Change) -> None:
    decomposer.hear(made.started(TRIAL))
    assert (await planned(decomposer)).assignment is not None
    decomposer.hear(made.started(TRIAL, change=change))
    plan = await planned(decomposer)
    assert (plan.policy.name, plan.assignment) == ("default", None)
    decomposer.hear(made.started(TRIAL, revision=2))
    assert (await planned(decomposer)).assignment is not None


async def test_what_is_older_than_what_is_known_changes_nothing(decomposer: Decomposer) -> None:
    decomposer.hear(made.started(TRIAL, revision=2, change=Change.KILL))
    decomposer.hear(made.started(TRIAL, revision=1))
    assert (await planned(decomposer)).assignment is None
    decomposer.hear(made.started(TRIAL, revision=3))
    for version, share in ((5, 1.0), (4, 0.0)):
        allocation = {"a": share, "b": 1 - share}
        decomposer.hear(WeightsPublished(experiment="trial", version=version, revision=3, allocation=allocation))
    plan = await planned(decomposer)
    assert (plan.arm, plan.weights_version, plan.propensity) == ("a", 5, 1.0)


async def test_all_traffic_goes_to_an_arm_that_is_promoted(decomposer: Decomposer) -> None:
    decomposer.hear(made.started(TRIAL, change=Change.PROMOTE, arm="b"))
    plans = [await planned(decomposer, number) for number in range(10)]
    assert {(plan.arm, plan.policy.name, plan.propensity, plan.assignment) for plan in plans} == {
        ("b", "single", 1.0, None)
    }


async def test_an_experiment_whose_policies_are_others_here_is_left_out_and_said_so(decomposer: Decomposer) -> None:
    changed = replace(TRIAL, arms={**TRIAL.arms, "b": Arm(policy="single", policy_digest="of another")})
    decomposer.hear(made.started(changed))
    plan = await planned(decomposer)
    assert (plan.policy.name, plan.assignment) == ("default", None)
    left_out = decomposer.status()["experiments_left_out"]
    assert isinstance(left_out, dict)
    assert "arm b" in left_out["trial"]


async def test_the_first_experiment_that_a_request_takes_part_in_assigns_it(decomposer: Decomposer) -> None:
    decomposer.hear(made.started(pinned(made.experiment(name="a-sums", only_tags={"task": "sums"}), shipped())))
    decomposer.hear(made.started(TRIAL))
    assert (await planned(decomposer, tags={"task": "sums"})).reasons["experiment"] == "a-sums"
    assert (await planned(decomposer)).reasons["experiment"] == "trial"
    assert decomposer.status()["experiments"] == {"a-sums": 0, "trial": 0}
