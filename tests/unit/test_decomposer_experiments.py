"""A decomposer in an experiment: who is assigned, what the plan says of it, and what ends it."""

from collections import Counter

import pytest
from msgspec.structs import replace

from conclave.domain.experiments.assignment import arm_at, draw
from conclave.errors import Rejected
from conclave.experiments import pinned
from conclave.policies import shipped
from conclave.policies.current import CurrentPolicies
from conclave.runtime.handler import Arrival
from conclave.testing import events as made
from schemas.events import ExperimentChanged, PlanMade, ReasoningRequested, SampleRequested, WeightsPublished
from schemas.experiments import HOLDOUT, Arm, Change, Shadow, ShadowOf
from schemas.ids import asked_at_ms, derived_request_id, shadow_id
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings
from services.decomposer.shadows import can_shadow

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


def arriving(request_id: str) -> Arrival:
    return Arrival("event", request_id, made.NOW_MS, made.NOW_MS, "reasoning.requests/0/42")


def shadowed(share: float = 1.0, **changes: object) -> ExperimentChanged:
    return made.started(
        pinned(made.experiment(shadow=Shadow(share=share, max_dollars_per_day=1.0), **changes), shipped())
    )


async def copies_of(decomposer: Decomposer, **fields: object) -> tuple[PlanMade, list[ReasoningRequested]]:
    """The plan of a request, and the copies of it that are published."""
    number = fields.pop("number", 0)
    request_id = derived_request_id(made.NOW_MS - 50, f"request {number}")
    request = ReasoningRequested(**({"question": "2+2?", "request_id": request_id} | fields))  # type: ignore[arg-type]
    events = await decomposer.handle(request, arriving(request_id))
    assert await decomposer.handle(request, arriving(request_id)) == events, "read again, it is the same copy"
    plan = events[0]
    assert isinstance(plan, PlanMade)
    return plan, [event for event in events if isinstance(event, ReasoningRequested)]


async def test_a_shadow_answers_a_copy_of_its_share_of_requests_and_serves_nobody(decomposer: Decomposer) -> None:
    change = shadowed(0.3)
    decomposer.hear(change)
    ids = set()
    for number in range(80):
        plan, copies = await copies_of(decomposer, number=number, tags={"user": "ann"}, idempotency_key="k")
        assert (plan.arm, plan.propensity, plan.policy.name, plan.shadow) == ("a", 1.0, "default", None)
        assert plan.assignment is not None
        assert bool(copies) == (arm_at({"a": 0.7, "b": 0.3}, plan.assignment.draw).arm == "b")
        ids |= {copy.request_id for copy in copies}
    assert 12 < len(ids) < 40


async def test_a_copy_is_a_request_of_its_own_that_is_no_one_s_answer_and_is_not_copied(decomposer: Decomposer) -> None:
    decomposer.hear(shadowed())
    of, (copy,) = await copies_of(decomposer, tags={"user": "ann"}, idempotency_key="k")
    assert copy.request_id == shadow_id(of.request_id) != of.request_id
    assert asked_at_ms(copy.request_id) == asked_at_ms(of.request_id)
    assert (copy.policy, copy.idempotency_key, copy.question, copy.max_age_s) == ("single@1", None, "2+2?", 0.0)
    assert copy.tags == {"user": "ann"}, "it is erased by the same tag"
    plan, *others = await decomposer.handle(copy, arriving(copy.request_id))
    assert isinstance(plan, PlanMade)
    assert (plan.policy.name, plan.arm, plan.assignment, plan.fingerprint) == ("single", "shadow", None, None)
    assert plan.shadow == ShadowOf(request_id=of.request_id, experiment="trial")
    assert not any(isinstance(event, ReasoningRequested) for event in others)


async def test_a_copy_that_is_not_the_pipeline_s_own_is_refused(decomposer: Decomposer) -> None:
    request_id = derived_request_id(made.NOW_MS - 50, "forged")
    forged = ReasoningRequested(
        question="2+2?", request_id=request_id, shadow=ShadowOf(request_id=made.REQUEST_ID, experiment="trial")
    )
    with pytest.raises(Rejected, match="copies"):
        await decomposer.handle(forged, arriving(request_id))


async def test_no_copy_is_made_once_the_money_of_a_day_is_spent(decomposer: Decomposer) -> None:
    decomposer.hear(shadowed())
    for version, share in ((1, 0.0), (2, 1.0)):
        allocation = {"a": 1.0 - share, "b": share}
        decomposer.hear(
            WeightsPublished(
                experiment="trial", version=version, revision=1, allocation=allocation, as_of_ms=made.NOW_MS
            )
        )
        assert len((await copies_of(decomposer))[1]) == share


async def test_copies_end_an_hour_after_the_last_word_of_who_counts_their_cost(decomposer: Decomposer) -> None:
    for silent_ms, num_copies in ((3_600_000, 1), (3_600_001, 0)):
        decomposer.hear(replace(shadowed(), changed_ms=made.NOW_MS - silent_ms))
        plan, copies = await copies_of(decomposer)
        assert (plan.arm, len(copies)) == ("a", num_copies)
    weights = WeightsPublished(experiment="trial", version=1, revision=1, allocation={"a": 0.0, "b": 1.0})
    decomposer.hear(replace(weights, as_of_ms=made.NOW_MS - 3_600_000))
    assert len((await copies_of(decomposer))[1]) == 1


async def test_no_copy_is_made_of_what_a_shadow_could_not_answer_in_its_own_right(decomposer: Decomposer) -> None:
    decomposer.hear(shadowed(arms={"a": Arm(policy="instruct"), "b": Arm(policy="tree")}))
    assert len((await copies_of(decomposer))[1]) == 1
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}}
    assert (await copies_of(decomposer, answer_schema=schema))[1] == []
    policy = shipped().find("default")
    assert policy is not None
    assert can_shadow(policy)
    ask = next(iter(policy.asks.values()))
    assert not can_shadow(replace(policy, asks={**policy.asks, "act": replace(ask, program="external")}))
