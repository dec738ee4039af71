"""Ramps climb and step back, and shadows rest: shares that no reward moves."""

import dataclasses
from hashlib import sha256

import msgspec
import pytest
from msgspec.structs import replace

from conclave.domain.experiments.assignment import allocation_of, arm_at, draw
from conclave.domain.experiments.evidence import ANSWERED, Cell, Evidence
from conclave.domain.experiments.reporting import report
from conclave.domain.experiments.reweighting import digest, next_weights
from conclave.domain.experiments.verification import Assigned, check_assignments, check_weights
from conclave.testing import events as made
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.experiments import Arm, Guardrail, Mode, Shadow
from tests.observed_arms import DAY_MS, evidence, experiment, observed, started

RAMP = (0.01, 0.05, 0.25, 1.0)

RAIL = Guardrail(metric=ANSWERED, max_drop=0.05)


def _ramping(candidate: str, **changes: object) -> ExperimentChanged:
    """A ramp of arm `candidate`, whose control is `m`."""
    arms = {"m": Arm(policy="default"), candidate: Arm(policy="single")}
    return started(mode=Mode.FIXED, arms=arms, control="m", ramp=RAMP, ramp_hold_s=60.0, guardrails=(RAIL,), **changes)


def _answered(change: ExperimentChanged, after_s: float, *, num: int = 400, share: float = 1.0) -> Evidence:
    """So many units of each arm, all of the control's and a share of the candidate's answered."""
    cells = []
    for arm in change.definition.arms:
        answered = num if arm == "m" else round(num * share)
        cells.append(Cell("reward", arm, 0, 0, observed(num, num / 2)))
        cells.append(Cell("answered", arm, 0, 0, observed(answered, answered, num_missing=num - answered)))
    return Evidence(tuple(sorted(cells)), change.changed_ms + round(after_s * 1000))


@pytest.mark.parametrize("candidate", ["a", "z"])
def test_a_ramp_climbs_step_by_step_and_keeps_who_was_assigned(candidate: str) -> None:
    change = _ramping(candidate)
    versions: list[WeightsPublished] = []
    for after_s in range(0, 400, 20):
        found = next_weights(change, _answered(change, after_s), versions[-1] if versions else None, {})
        versions += [found] if found is not None else []
    assert [each.allocation[candidate] for each in versions] == [0.05, 0.25, 1.0]
    assert [each.as_of_ms - change.changed_ms for each in versions] == [60_000, 120_000, 180_000]
    assert list(check_weights([change], versions)) == []
    units = [draw(change.definition, f"user {number}") for number in range(400)]
    on_it = [{each for each in units if arm_at(version.allocation, each).arm == candidate} for version in versions]
    assert on_it[0] < on_it[1] < on_it[2] == set(units)


def test_a_ramp_waits_for_its_hour_and_for_enough_to_judge_by() -> None:
    change = _ramping("z")
    assert next_weights(change, _answered(change, 59.0), None, {}) is None
    assert next_weights(change, _answered(change, 600.0, num=19), None, {}) is None


def test_a_ramp_steps_back_by_itself_where_a_guardrail_breaks_and_stays_there() -> None:
    change = _ramping("z")
    first = next_weights(change, _answered(change, 60.0), None, {})
    assert first is not None
    broken = next_weights(change, _answered(change, 70.0, share=0.5), first, {})
    assert broken is not None
    assert (broken.allocation, broken.out, broken.reason) == ({"m": 1.0, "z": 0.0}, {"z": "answered"}, "guardrail")
    assert next_weights(change, _answered(change, 9000.0), broken, {}) is None
    assert list(check_weights([change], [first, broken])) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": Mode.REGRET},
        {"holdout": 0.1},
        {"ramp": (0.05, 0.05)},
        {"ramp": (0.5, 0.1)},
        {"arms": {each: Arm(policy="default") for each in "abm"}},
        {"arms": {"a": Arm(policy="default", share=0.5), "m": Arm(policy="single", share=0.5)}},
    ],
)
def test_a_ramp_that_can_not_be_climbed_is_refused(changes: dict[str, object]) -> None:
    arms = {"a": Arm(policy="default"), "m": Arm(policy="single")}
    with pytest.raises(ValueError, match="ramp"):
        experiment(**({"mode": Mode.FIXED, "arms": arms, "control": "m", "ramp": RAMP} | changes))  # type: ignore[arg-type]


def _shadowing() -> ExperimentChanged:
    """A shadow of a tenth of the requests, for two dollars a day."""
    return started(mode=Mode.FIXED, shadow=Shadow(share=0.1, max_dollars_per_day=2.0))


def test_a_shadow_rests_on_a_day_whose_money_is_spent_and_goes_on_the_day_after() -> None:
    change = _shadowing()
    assert allocation_of(change.definition, 1, None) == (0, {"a": 0.9, "b": 0.1})
    assert next_weights(change, Evidence((), made.NOW_MS, spent_micro=1_999_999), None, {}) is None
    spent = next_weights(change, Evidence((), made.NOW_MS, spent_micro=2_000_000), None, {})
    assert spent is not None
    assert (spent.allocation, spent.spent_micro, spent.reason) == ({"a": 1.0, "b": 0.0}, 2_000_000, "spent")
    assert next_weights(change, Evidence((), made.NOW_MS, spent_micro=2_100_000), spent, {}) is None
    next_day = next_weights(change, Evidence((), made.NOW_MS + DAY_MS), spent, {})
    assert next_day is not None
    assert next_day.allocation == {"a": 0.9, "b": 0.1}
    assert list(check_weights([change], [spent, next_day])) == []
    confirmed = next_weights(change, Evidence((), made.NOW_MS + DAY_MS + 900_000, spent_micro=1), next_day, {})
    assert confirmed is not None, "somebody still counts"
    assert (confirmed.allocation, confirmed.reason) == (next_day.allocation, "update")
    assert next_weights(change, Evidence((), confirmed.as_of_ms + 899_999, spent_micro=2), confirmed, {}) is None
    forged = replace(spent, spent_micro=1)
    assert [each.where for each in check_weights([change], [forged])] == [
        f"version 1, {name}" for name in ("digest", "allocation", "reason")
    ]


_NEWER = ("spent_micro", "ramp_since", "why", "segments", "segment_correlation")


def test_digests_of_versions_from_before_there_were_shadows_are_what_they_were() -> None:
    found = next_weights(started(), evidence(a=(200, 10.0), b=(20, 20.0)), None, {})
    assert found is not None
    before = {name: getattr(found, name) for name in found.__struct_fields__ if name not in _NEWER} | {"digest": ""}
    said = b"{" + b",".join(
        msgspec.json.encode(name) + b":" + msgspec.json.encode(value, order="deterministic") for name, value in before.items()
    ) + b"}"  # fmt: skip
    assert sha256(said).hexdigest() == found.digest == digest(found)


def test_whatever_is_drawn_for_a_shadow_the_control_serves() -> None:
    change = _shadowing()
    assigned = [
        Assigned(f"request {number}", 1, f"request {number}", draw(change.definition, f"request {number}"), "a", 1.0, 0)
        for number in range(50)
    ]
    assert list(check_assignments([change], [], assigned)) == []
    wrong = dataclasses.replace(assigned[0], arm="b", propensity=0.1)
    assert len(list(check_assignments([change], [], [wrong]))) == 1
    cell = Cell("reward", "a", 0, 0, observed(5000, 2500.0))
    answered = Cell("answered", "a", 0, 0, observed(5000, 5000.0))
    found = report(change, Evidence((answered, cell), made.NOW_MS), [])
    assert not any(each.is_alarm for each in found.mismatches)


def test_a_shadow_says_all_there_is_to_say_of_shares() -> None:
    with pytest.raises(ValueError, match="shadow"):
        experiment(shadow=Shadow(share=0.1, max_dollars_per_day=1.0), mode=Mode.REGRET)
    with pytest.raises(ValueError, match="shadow"):
        experiment(shadow=Shadow(share=0.1, max_dollars_per_day=1.0), mode=Mode.FIXED, holdout=0.1)
