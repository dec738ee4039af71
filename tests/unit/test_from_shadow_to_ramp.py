"""An experiment that begins unseen: what lets its shadow become a ramp, what ends either, and that all of it is computed again."""

import math
import random
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from conclave.domain.experiments.assignment import arm_at, draw
from conclave.domain.experiments.evidence import ANSWERED, BETTER, WORSE, Cell, Evidence, beside
from conclave.domain.experiments.history import history
from conclave.domain.experiments.phases import in_force, ramp_since
from conclave.domain.experiments.reporting import report
from conclave.domain.experiments.reweighting import digest, next_weights
from conclave.domain.experiments.verification import Assigned, check_assignments, check_evidence, check_weights
from conclave.experiments.checks import problems_of
from conclave.experiments.reading import Read, read
from conclave.policies import shipped
from conclave.policies.current import CurrentPolicies
from conclave.runtime.handler import Arrival
from conclave.testing import events as made
from schemas.events import ExperimentChanged, PlanMade, ReasoningRequested, WeightsPublished
from schemas.experiments import Guardrail, Metric, MetricCounts, Shadow
from schemas.ids import derived_request_id
from schemas.values import Price
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings

SAME = Guardrail(metric=Metric(name="same_answer"), at_least=0.8)
NO_FEWER = Guardrail(metric=ANSWERED, max_drop=0.05)
RAMP = (0.05, 0.5, 1.0)


def begun(*checks: Guardrail, **changes: object) -> ExperimentChanged:
    shadow = Shadow(share=0.2, max_dollars_per_day=1.0, price=Price(), checks=checks or (SAME, NO_FEWER))
    values = {"shadow": shadow, "ramp": RAMP, "ramp_hold_s": 60.0, "guardrails": (NO_FEWER,)} | changes
    return made.started(made.experiment(**values))


def pairs(
    num: int, *, same: float = 0.0, worse: float = 0.0, better: float = 0.0, missing: int = 0, after_s: float = 0.0
) -> Evidence:
    """So many settled pairs, shares of which had the same answer, were answered by one alone, or have not ended."""
    counts = {"num_units": num, "num_observed": num - missing, "num_missing": missing}

    def cell(key: str, arm: str, share: float) -> Cell:
        return Cell(key, arm, 0, 0, MetricCounts(**counts, sum_micro=round(share * (num - missing)) * 1_000_000))

    of_same, of_answered = beside(SAME.metric), beside(ANSWERED)
    cells = [
        cell(of_same, "b", same),
        cell(of_same, "a", 1.0),
        cell(of_answered, "b", 0.98 - worse + better),
        cell(of_answered, "a", 0.98),
        cell(of_answered + BETTER, "b", better),
        cell(of_answered + WORSE, "b", worse),
    ]
    return Evidence(tuple(sorted(cells)), made.NOW_MS + round(after_s * 1000))


def served(version: int, num: int, *, share: float = 1.0, after_s: float) -> Evidence:
    """So many units of each arm by that version, all of the control's and a share of the other's answered."""
    cells = []
    for arm, answered in (("a", num), ("b", round(num * share))):
        cells.append(
            Cell("reward", arm, version, 0, MetricCounts(num_units=num, num_observed=num, sum_micro=num * 500_000))
        )
        of = MetricCounts(num_units=num, num_observed=num, sum_micro=answered * 1_000_000)
        cells.append(Cell("answered", arm, version, 0, of))
    return Evidence(tuple(sorted(cells)), made.NOW_MS + round(after_s * 1000))


def test_a_shadow_becomes_a_ramp_once_all_of_its_checks_are_known_to_hold() -> None:
    change = begun()
    assert next_weights(change, pairs(19, same=1.0), None, {}) is None, "too few to judge by"
    assert next_weights(change, pairs(400, same=0.82), None, {}) is None, "not known yet"
    assert next_weights(change, pairs(400, same=0.95, worse=0.05), None, {}) is None, "one of the two is not known"
    found = next_weights(change, pairs(400, same=0.95, worse=0.01), None, {"reasoning.answers/0": 7})
    assert found is not None
    assert (found.reason, found.ramp_since, found.allocation) == ("ramp", 1, {"a": 0.95, "b": 0.05})
    assert "shadow.same_answer 0.950, wanted at least 0.8, of 400 pairs" in found.why
    assert "at most 0.05 below 0.980" in found.why
    assert list(check_weights([change], [found])) == []


def test_a_ramp_that_followed_a_shadow_climbs_and_steps_back_by_itself() -> None:
    change = begun()
    confirmed = next_weights(change, pairs(5, same=1.0, after_s=900.0), None, {})
    assert confirmed is not None, "somebody still counts"
    first = next_weights(change, pairs(400, same=0.95, worse=0.01, after_s=910.0), confirmed, {})
    assert first is not None
    assert (first.version, first.ramp_since) == (2, 2)
    assert next_weights(change, served(2, 400, after_s=960.0), first, {}) is None, "each share holds for a minute"
    second = next_weights(change, served(2, 400, after_s=970.0), first, {})
    assert second is not None
    assert (second.allocation, second.ramp_since, second.reason) == ({"a": 0.5, "b": 0.5}, 2, "update")
    back = next_weights(change, served(3, 400, share=0.7, after_s=975.0), second, {})
    assert back is not None
    assert (back.allocation, back.out, back.reason) == ({"a": 1.0, "b": 0.0}, {"b": "answered"}, "guardrail")
    assert back.why == "b breaks the guardrail answered"
    assert next_weights(change, served(3, 900, after_s=99_000.0), back, {}) is None, "it stays there"
    versions = [confirmed, first, second, back]
    assert list(check_weights([change], versions)) == []
    assert [(each.what, each.by) for each in history([change], versions)] == [
        ("start", "ann"),
        ("shadow becomes ramp", "reweighter"),
        ("arm is out", "reweighter"),
    ]


def test_a_shadow_that_breaks_a_check_ends_and_costs_nothing_any_more() -> None:
    change = begun()
    found = next_weights(change, pairs(400, same=0.6, worse=0.01), None, {})
    assert found is not None
    assert (found.reason, found.out, found.ramp_since) == ("check", {"b": "shadow.same_answer"}, 0)
    assert found.allocation == {"a": 1.0, "b": 0.0}
    assert found.why.startswith("it breaks a check: shadow.same_answer 0.600")
    assert next_weights(change, pairs(900, same=1.0, after_s=99_000.0), found, {}) is None, "and stays so"
    assert list(check_weights([change], [found])) == []


def test_what_the_record_lacks_proves_neither() -> None:
    change = begun()
    assert next_weights(change, pairs(400, same=0.97, missing=120), None, {}) is None, "the missing may be otherwise"
    assert next_weights(change, pairs(400, same=0.6, missing=150), None, {}) is None, "the missing may be the same"
    assert next_weights(change, pairs(400, same=0.97, missing=4), None, {}) is not None


def test_a_shadow_is_trusted_wrongly_at_most_as_often_as_its_check_allows() -> None:
    rng, wrongly, num_runs = random.Random(14), 0, 150
    change = begun(replace(SAME, risk=0.1), min_observations=5)
    for _ in range(num_runs):
        num_same = 0
        for number in range(1, 201):
            num_same += rng.random() < 0.8  # exactly the least
            found = next_weights(change, pairs(number, same=num_same / number), None, {}) if number % 5 == 0 else None
            if found is not None:
                wrongly += found.reason == "ramp"
                break
    assert wrongly <= 0.1 * num_runs + 3 * math.sqrt(0.1 * 0.9 * num_runs)


def test_every_version_is_counted_and_decided_again_by_the_phase_that_it_was_made_in() -> None:
    change = begun()
    of_pairs, of_units = pairs(400, same=0.95, worse=0.01), served(1, 400, after_s=60.0)
    first = next_weights(change, of_pairs, None, {})
    assert first is not None
    second = next_weights(change, of_units, first, {})
    assert second is not None
    assert list(check_evidence(change, of_pairs, first, None)) == []
    assert list(check_evidence(change, of_units, second, first)) == []
    assert list(check_evidence(change, pairs(400, same=0.9, worse=0.01), first, None))
    forged = replace(first, ramp_since=0, allocation={"a": 0.8, "b": 0.2}, reason="update", why="")
    forged = replace(forged, digest=digest(forged))
    assert list(check_weights([change], [forged]))
    again = [msgspec.json.decode(msgspec.json.encode(each), type=WeightsPublished) for each in (first, second)]
    assert list(check_weights([change], again)) == []
    for name, wrong in (("why", "it is liked"), ("ramp_since", 2)):
        changed = replace(second, **{name: wrong})
        assert list(check_weights([change], [first, changed])), name
        assert list(check_weights([change], [first, replace(changed, digest=digest(changed))])), name


def test_weights_of_the_run_before_say_nothing_of_the_phase() -> None:
    first = next_weights(begun(), pairs(400, same=0.95, worse=0.01), None, {})
    assert first is not None
    again = replace(begun(), revision=2)
    assert (ramp_since(1, first), ramp_since(2, first)) == (1, 0)
    assert in_force(again, first).shadow is not None
    assert in_force(begun(), first).ramp == RAMP
    second = next_weights(again, pairs(400, same=0.95, worse=0.01, after_s=1.0), first, {})
    assert second is not None
    assert (second.version, second.ramp_since) == (2, 2)
    assert list(check_weights([begun(), again], [first, second])) == []


def test_assignments_are_drawn_again_by_the_phase_of_their_version() -> None:
    change = begun()
    first = next_weights(change, pairs(400, same=0.95, worse=0.01), None, {})
    assert first is not None
    units = [f"user {number}" for number in range(300)]
    drawn = {unit: draw(change.definition, unit) for unit in units}
    unseen = [Assigned(unit, 1, unit, drawn[unit], "a", 1.0, 0) for unit in units]
    arms = {unit: arm_at(first.allocation, drawn[unit]) for unit in units}
    seen = [Assigned(unit, 1, unit, drawn[unit], arms[unit].arm, arms[unit].propensity, 1) for unit in units]
    assert {each.arm for each in seen} == {"a", "b"}
    assert list(check_assignments([change], [first], [*unseen, *seen])) == []
    by_the_other = [each for each in seen if each.arm == "b"]
    assert len(list(check_assignments([change], [], by_the_other))) == len(by_the_other)


def test_a_report_tells_the_phase_and_how_each_check_stands() -> None:
    change = begun()
    found = report(change, pairs(400, same=0.85, worse=0.0), [])
    assert (found.phase, [(each.key, each.holds) for each in found.checks]) == (
        "shadow",
        [("shadow.same_answer", False), ("shadow.answered", True)],
    )
    first = next_weights(change, pairs(400, same=0.95, worse=0.01), None, {})
    assert first is not None
    after = report(change, served(1, 30, after_s=10.0), [first])
    assert (after.phase, after.checks, after.arms[1].share) == ("ramp", (), 0.05)


async def test_whom_the_shadow_was_copied_for_the_ramp_serves_first() -> None:
    decomposer = Decomposer(DecomposerSettings(), CurrentPolicies("default"))
    change = begun(unit="user")
    decomposer.hear(change)

    async def dealt(user: int) -> tuple[str, float, bool]:
        request_id = derived_request_id(made.NOW_MS - 50, f"{user}")
        request = ReasoningRequested(question="2+2?", request_id=request_id, tags={"user": f"{user}"})
        plan, *others = await decomposer.handle(request, Arrival("e", request_id, made.NOW_MS, made.NOW_MS, "r/0/1"))
        assert isinstance(plan, PlanMade)
        return plan.arm, plan.propensity, any(isinstance(each, ReasoningRequested) for each in others)

    unseen = [await dealt(user) for user in range(60)]
    assert {(arm, propensity) for arm, propensity, _ in unseen} == {("a", 1.0)}
    weights = next_weights(change, pairs(400, same=0.95, worse=0.01), None, {})
    assert weights is not None
    decomposer.hear(weights)
    seen = [await dealt(user) for user in range(60)]
    assert not any(is_copied for *_, is_copied in seen)
    on_it = {user for user, (arm, *_) in enumerate(seen) if arm == "b"}
    copied = {user for user, (*_, is_copied) in enumerate(unseen) if is_copied}
    assert on_it <= copied
    assert {propensity for arm, propensity, _ in seen if arm == "b"} <= {0.05}


def test_a_ramp_after_a_shadow_needs_a_check() -> None:
    with pytest.raises(ValueError, match=r"shadow\.checks"):
        made.experiment(shadow=Shadow(share=0.1, max_dollars_per_day=1.0), ramp=RAMP)


@pytest.mark.parametrize(
    ("check", "field"),
    [
        (Guardrail(metric=Metric(name="reward"), at_least=0.5), "shadow.checks[0].metric.name"),
        (Guardrail(metric=Metric(name="same_answer"), max_drop=0.1), "shadow.checks[0].at_least"),
        (Guardrail(metric=Metric(name="within_tokens"), at_least=0.5), "shadow.checks[0].metric.limit"),
        (Guardrail(metric=Metric(name="answered", missing=0.0), at_least=0.5), "shadow.checks[0].metric"),
    ],
)
def test_a_check_that_a_shadow_can_not_have_is_named(check: Guardrail, field: str) -> None:
    wrong = problems_of(Read(begun(check).definition, "", Path("trial.toml")), shipped())
    assert field in {each.field for each in wrong}


def test_a_file_says_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "trial.toml"
    path.write_text("""
        control = "a"
        ramp = [0.05, 1.0]
        arms.a.policy = "default"
        arms.b.policy = "single"
        [shadow]
        share = 0.1
        max_dollars_per_day = 2.0
        [[shadow.checks]]
        metric = { name = "same_answer" }
        at_least = 0.8
        [[shadow.checks]]
        metric = { name = "within_tokens", limit = 4000 }
        max_drop = 0.1
    """)
    found, problems = read(path)
    assert problems == []
    assert found is not None
    assert found.experiment.shadow is not None
    keys = [beside(check.metric) for check in found.experiment.shadow.checks]
    assert keys == ["shadow.same_answer", "shadow.within_tokens.4000"]
    long_limits = [Metric(name="within_ms", limit=float(each)) for each in (1_200_000, 12_345_678)]
    assert [beside(each) for each in long_limits] == ["shadow.within_ms.1200000", "shadow.within_ms.12345678"]
