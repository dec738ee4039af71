"""Segments of an experiment: shares of their own, a prior that they share, and all of it computed again."""

import json
import math
import random
from collections import Counter
from collections.abc import Iterable

import hypothesis.strategies as st
import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from msgspec.structs import replace

from conclave.cli.experiments import experiment as commands
from conclave.domain.experiments.assignment import arm_at, draw
from conclave.domain.experiments.evidence import Cell, Evidence
from conclave.domain.experiments.history import history
from conclave.domain.experiments.judging import over_segments
from conclave.domain.experiments.pooling import borrowed_counts, correlation, pooled
from conclave.domain.experiments.receipts import (
    AssignmentReceipt,
    ChangeReceipt,
    Receipt,
    WeightsReceipt,
    check_receipts,
    end_of,
    written,
)
from conclave.domain.experiments.reporting import report
from conclave.domain.experiments.reweighting import decided, next_weights
from conclave.domain.experiments.states import strata_of
from conclave.domain.experiments.verification import Assigned, check_assignments, check_evidence, check_weights
from conclave.experiments import pinned
from conclave.policies import shipped
from conclave.policies.current import CurrentPolicies
from conclave.runtime.handler import Arrival
from conclave.testing import events as made
from schemas.events import ExperimentChanged, PlanMade, ReasoningRequested, WeightsPublished
from schemas.experiments import Arm, Guardrail, Metric, MetricCounts, Mode, SegmentWeights
from schemas.ids import derived_request_id
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings
from tests.memory_view import MemoryTrials

_counts = st.tuples(st.integers(0, 400), st.floats(0, 1)).map(
    lambda each: (1 + each[0] * each[1], 1 + each[0] * (1 - each[1]))
)
_beliefs = st.dictionaries(st.sampled_from("uvwxyz"), st.fixed_dictionaries({"a": _counts, "b": _counts}), min_size=1)
_rho = st.floats(0, 1)


def started(**changes: object) -> ExperimentChanged:
    values = {"mode": Mode.REGRET, "max_change": 1.0, "period_s": 1e6, "segment_by": "task"} | changes
    return made.started(made.experiment(**values))


def cell(arm: str, num: int, total: float, *, segment: str = "", version: int = 0, metric: str = "reward") -> Cell:
    counts = MetricCounts(num_units=num, num_observed=num, sum_micro=round(total * 1e6))
    return Cell(metric, arm, version, 0, counts, segment)


def evidence(*cells: Cell) -> Evidence:
    return Evidence(tuple(sorted(cells)), made.NOW_MS)


def versions_of(change: ExperimentChanged, looks: Iterable[Evidence]) -> list[WeightsPublished]:
    versions: list[WeightsPublished] = []
    for number, look in enumerate(looks):
        found = next_weights(change, look, versions[-1] if versions else None, {"reasoning.feedback/0": number})
        assert found is not None
        versions.append(found)
    return versions


# At first both kinds of task are of the rest; then they are named, and differ.
UNNAMED = [cell(arm, 30, total, segment=of) for of in ("sums", "words") for arm, total in (("a", 15), ("b", 15))]
DIFFERENT = [
    cell(arm, 200, total, segment=of, version=1)
    for of, totals in (("sums", (60, 140)), ("words", (140, 60)))
    for arm, total in zip("ab", totals, strict=True)
]
ALIKE = [
    cell(arm, 200, total, segment=of, version=1) for of in ("sums", "words") for arm, total in (("a", 100), ("b", 120))
]


@settings(max_examples=50)
@given(_counts, _counts, _rho)
def test_a_single_segment_borrows_nothing_to_the_bit(
    a: tuple[float, float], b: tuple[float, float], rho: float
) -> None:
    assert pooled({"": {"a": a, "b": b}}, rho) == {"": {"a": a, "b": b}}


@settings(max_examples=80)
@given(_beliefs, _rho)
def test_what_is_believed_lies_between_a_segment_s_own_word_and_that_of_the_others(
    own: dict[str, dict[str, tuple[float, float]]], rho: float
) -> None:
    found, borrowed = pooled(own, rho), borrowed_counts(own, rho)
    for segment, beliefs in found.items():
        for arm, (alpha, beta) in beliefs.items():
            own_alpha, own_beta = own[segment][arm]
            lent = (alpha - own_alpha, beta - own_beta)
            assert math.isclose(sum(lent), borrowed[segment][arm], abs_tol=1e-6)
            assert min(lent) >= -1e-9
            assert sum(lent) <= (1 - rho) / rho + 1e-6 if rho > 1e-6 else True
            of_others = [own[other][arm] for other in own if other != segment]
            assert sum(lent) <= sum(sum(each) - 2 for each in of_others) * (1 + 1e-9) + 1e-6, "never more than there is"
            if sum(lent) > 1e-6:
                ends = sorted((own_alpha / (own_alpha + own_beta), lent[0] / sum(lent)))
                assert ends[0] - 1e-9 <= alpha / (alpha + beta) <= ends[1] + 1e-9


@settings(max_examples=40)
@given(_beliefs)
def test_without_correlation_there_is_one_belief_for_all_and_with_all_of_it_each_stands_alone(
    own: dict[str, dict[str, tuple[float, float]]],
) -> None:
    assert 0.0 <= correlation(own) <= 1.0
    assert pooled(own, 1.0) == {segment: dict(beliefs) for segment, beliefs in own.items()}
    whole = {arm: [sum(each[arm][side] - 1 for each in own.values()) + 1 for side in (0, 1)] for arm in "ab"}
    for beliefs in pooled(own, 0.0).values():
        for arm in "ab":
            assert beliefs[arm] == pytest.approx(whole[arm])


def test_the_correlation_is_found_again_from_segments_that_were_drawn_with_it() -> None:
    rng, num = random.Random(7), 150
    for rho in (0.02, 0.1, 0.3):
        strength = 1 / rho - 1
        own = {}
        for number in range(200):
            means = {
                arm: rng.betavariate(mean * strength, (1 - mean) * strength) for arm, mean in (("a", 0.4), ("b", 0.6))
            }
            good = {arm: sum(rng.random() < mean for _ in range(num)) for arm, mean in means.items()}
            own[f"s{number}"] = {arm: (1.0 + each, 1.0 + num - each) for arm, each in good.items()}
        assert correlation(own) == pytest.approx(rho, rel=0.15)
    assert correlation({"u": {"a": (9.0, 3.0)}}) == pytest.approx(0.1), "one segment says nothing of how they differ"


def test_an_experiment_whose_requests_have_no_segment_is_dealt_out_as_one_without() -> None:
    look = evidence(cell("a", 50, 20), cell("b", 50, 30))
    (with_segments,), (without,) = versions_of(started(), [look]), versions_of(started(segment_by=""), [look])
    assert with_segments.allocation == without.allocation
    assert with_segments.states == without.states
    assert with_segments.segments == without.segments == {}


def test_a_value_is_named_once_it_has_units_enough_and_starts_by_what_the_others_have_shown() -> None:
    cells = [cell(arm, 30, total, segment=of) for of in ("sums", "words") for arm, total in (("a", 10), ("b", 20))]
    (first,) = versions_of(started(), [evidence(*cells, cell("a", 19, 6, segment="odd"))])
    assert list(first.segments) == ["sums", "words"]
    for each in first.segments.values():
        assert each.since == 1
        assert 0.7 < each.allocation["b"] < first.allocation["b"], "as the rest, but less sure of it"
        assert all(state.counts["reward"] == MetricCounts() for state in each.states.values())
    assert first.states["a"].counts["reward"].num_units == 79, "what was drawn by the rest's shares stays the rest's"


def test_there_are_no_more_segments_than_was_said_and_those_with_most_units_come_first() -> None:
    change = started(max_segments=2)
    cells = [cell(arm, 30 + number, 15, segment=f"t{number}") for number in range(5) for arm in "ab"]
    (first,) = versions_of(change, [evidence(*cells)])
    assert set(first.segments) == {"t3", "t4"}
    assert set(strata_of(change.definition, evidence(*cells, *DIFFERENT), first.segments)) == {"", "t3", "t4"}


def test_segments_that_differ_are_dealt_out_each_by_its_own_word() -> None:
    _, second = versions_of(started(), [evidence(*UNNAMED), evidence(*UNNAMED, *DIFFERENT)])
    assert second.segments["sums"].allocation["b"] > 0.9
    assert second.segments["words"].allocation["a"] > 0.9
    assert 0.2 < second.allocation["a"] < 0.8, "a new kind of task may be like either"
    assert second.segment_correlation > 0.1


def test_segments_that_are_alike_learn_from_each_other() -> None:
    first, second = versions_of(started(), [evidence(*UNNAMED), evidence(*UNNAMED, *ALIKE)])
    alone = [each for each in ALIKE if each.segment == "sums"]
    by_itself = next_weights(started(), evidence(*UNNAMED, *alone), first, {})
    assert by_itself is not None
    assert second.segment_correlation < 0.01
    assert (
        second.segments["sums"].states["b"].probability_best > by_itself.segments["sums"].states["b"].probability_best
    )
    assert second.allocation["b"] > 0.8, "a new kind of task starts with what the others have shown"


def test_a_winner_is_of_its_segment_and_sticks() -> None:
    change = started(mode=Mode.BEST_ARM)
    _, second = versions_of(change, [evidence(*UNNAMED), evidence(*UNNAMED, *DIFFERENT)])
    assert (second.winner, second.reason) == (None, "winner")
    assert {segment: each.winner for segment, each in second.segments.items()} == {"sums": "b", "words": "a"}
    assert "b is better than each of the others in sums; a is better" in history([change], [second])[-1].why
    turned = [cell(arm, 400, total, segment="sums", version=2) for arm, total in (("a", 400), ("b", 0))]
    third = next_weights(change, evidence(*UNNAMED, *DIFFERENT, *turned), second, {})
    assert third is None or third.segments["sums"].winner == "b"


def test_an_arm_that_breaks_a_guardrail_in_one_segment_is_out_of_all_at_once() -> None:
    guardrail = Guardrail(metric=Metric(name="answered", missing=0.0), at_least=0.9)
    change = started(guardrails=(guardrail,))
    answered = [
        cell("b", 200, 196 if of == "sums" else 100, segment=of, version=1, metric="answered")
        for of in ("sums", "words")
    ]
    first, second = versions_of(change, [evidence(*UNNAMED), evidence(*UNNAMED, *DIFFERENT, *answered)])
    assert (second.out, second.reason) == ({"b": "answered"}, "guardrail")
    for allocation in (second.allocation, *(each.allocation for each in second.segments.values())):
        assert allocation == {"a": 1.0, "b": 0.0}
    assert first.out == {}


@settings(max_examples=60)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=5))
def test_evidence_over_segments_is_worth_a_bit_less_than_the_best_of_it_and_no_more_than_all(logs: list[float]) -> None:
    found = over_segments(logs, 6)
    assert found >= max(*logs, 0.0) - math.log(12) - 1e-9
    assert found >= sum(logs) - math.log(2) - 1e-9
    assert math.exp(found) <= 0.5 * math.exp(sum(logs)) + 0.5 * math.exp(max(*logs, 0.0)) * (1 + 1e-9)
    assert over_segments(logs[:1], 1) == logs[0]


def test_evidence_over_segments_that_keep_to_it_is_one_on_average() -> None:
    rng, found = random.Random(3), []
    for _ in range(4000):  # e-values of two outcomes: 1.8 or 0.2
        found.append(math.exp(over_segments([math.log(rng.choice((1.8, 0.2))) for _ in range(3)], 5)))
    assert sum(found) / len(found) == pytest.approx(1.0, abs=0.05)


def looks_of(change: ExperimentChanged) -> tuple[list[Evidence], list[WeightsPublished]]:
    looks = [evidence(*UNNAMED), evidence(*UNNAMED, *DIFFERENT), evidence(*UNNAMED, *ALIKE)]
    return looks, versions_of(change, looks)


def test_every_version_is_computed_again_and_a_forged_segment_is_found() -> None:
    change = started(holdout=0.1)
    looks, versions = looks_of(change)
    assert list(check_weights([change], versions)) == []
    for place, (look, weights) in enumerate(zip(looks, versions, strict=True)):
        assert list(check_evidence(change, look, weights, versions[place - 1] if place else None)) == []
    sums = versions[1].segments["sums"]
    for forged in (
        replace(sums, allocation=sums.allocation | {"a": sums.allocation["b"], "b": sums.allocation["a"]}),
        replace(sums, winner="a"),
        replace(sums, since=2),
        replace(sums, states=versions[1].segments["words"].states),
    ):
        wrong = replace(versions[1], segments=versions[1].segments | {"sums": forged})
        assert [each for each in check_weights([change], [versions[0], wrong]) if "digest" not in each.where]
    left_out = replace(versions[1], segments={"words": versions[1].segments["words"]})
    assert "none for sums" in str(list(check_weights([change], [versions[0], left_out])))
    assert list(check_evidence(change, looks[0], versions[1], versions[0]))


def test_receipts_check_segments_too() -> None:
    change = started()
    looks, versions = looks_of(change)
    receipts: list[Receipt] = [
        ChangeReceipt(change),
        *(WeightsReceipt(each, look.cells) for each, look in zip(versions, looks, strict=True)),
    ]
    drawn = draw(change.definition, "ann")
    for segment in ("sums", "words", "new", ""):
        shares = versions[1].segments[segment].allocation if segment in versions[1].segments else versions[1].allocation
        arm = arm_at(shares, drawn)
        assigned = Assigned(f"of {segment}", 1, "ann", drawn, arm.arm, arm.propensity, 2, segment)
        assert list(check_assignments([change], versions, [assigned])) == []
        receipts.append(AssignmentReceipt(assigned))
    assert check_receipts(list(written([*receipts, end_of(receipts)])))[1] == []
    rest = arm_at(versions[1].allocation, drawn)
    moved = Assigned("x", 1, "ann", drawn, rest.arm, rest.propensity, 2, "sums")
    assert list(check_assignments([change], versions, [moved])), "by another segment's shares it is another propensity"


def test_a_report_tells_each_segment_and_no_false_alarm_where_shares_differ_by_segment() -> None:
    change = started(min_observations=10)
    versions = versions_of(change, [evidence(*UNNAMED), evidence(*UNNAMED, *DIFFERENT)])
    dealt = []
    for of, allocation in ((of, versions[1].segments[of].allocation) for of in ("sums", "words")):
        for arm, share in allocation.items():
            num = round(2000 * share)
            dealt += [
                cell(arm, num, num / 2, segment=of, version=2),
                cell(arm, num, num, segment=of, version=2, metric="answered"),
            ]
    found = report(change, evidence(*UNNAMED, *dealt), versions)
    assert [each.segment for each in found.segments] == ["", "sums", "words"]
    assert not [each for each in found.mismatches if each.is_alarm and each.stage != "answered"]
    sums = {arm.arm: arm for arm in found.segments[1].arms}
    assert sums["b"].num_units == round(2000 * sums["b"].share)
    assert sums["b"].lower < sums["b"].mean < sums["b"].upper


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"mode": Mode.FIXED}, "segment_by"),
        ({"unit": "task"}, "segment_by"),
        ({"arms": {f"arm{number}": Arm(policy="default") for number in range(9)}, "control": "arm0"}, "max_segments"),
    ],
)
def test_what_segments_cannot_be_is_refused_at_its_field(changes: dict[str, object], at: str) -> None:
    with pytest.raises(ValueError, match=rf"at `\$\.{at}`"):
        started(**changes)


def test_the_largest_version_fits_its_event() -> None:
    guardrails = tuple(Guardrail(metric=Metric(name=f"{number}" * 60), at_least=0.5) for number in range(8))
    arms = {f"{number:03}" * 20: Arm(policy="default") for number in range(8)}
    change = started(arms=arms, control=next(iter(arms)), guardrails=guardrails, floor=0.0, min_observations=1)
    big = 10**12
    counts = MetricCounts(
        num_units=big, num_observed=big, num_early=big, num_pending=big, num_missing=big, sum_micro=big
    )
    keys = ["reward", "answered", *(each.metric.name for each in guardrails)]
    cells = [Cell(key, arm, 1, 0, counts, f"{of}" * 60) for key in keys for arm in arms for of in range(8)]
    (first,) = versions_of(change, [evidence(*cells)])
    strata = strata_of(change.definition, evidence(*cells), first.segments)
    second = decided(change, strata, first, as_of_ms=made.NOW_MS, watermark={})
    assert len(second.segments) == 8
    assert all(state.counts["reward"].num_units == big for state in second.segments["0" * 60].states.values())
    assert len(msgspec.json.encode(second)) < 256 * 1024


async def test_a_decomposer_deals_by_the_request_s_segment_and_by_the_rest_where_it_knows_none() -> None:
    trial = pinned(made.experiment(mode=Mode.REGRET, segment_by="task"), shipped())
    decomposer = Decomposer(DecomposerSettings(), CurrentPolicies("default"))
    decomposer.hear(made.started(trial))
    sums = SegmentWeights(allocation={"a": 0.0, "b": 1.0}, since=1)
    decomposer.hear(
        WeightsPublished(
            experiment="trial", version=2, revision=1, allocation={"a": 1.0, "b": 0.0}, segments={"sums": sums}
        )
    )
    cases = {"sums": ("b", "sums"), "words": ("a", "words"), "": ("a", ""), "Not a name!": ("a", "")}
    for number, (task, expected) in enumerate(cases.items()):
        request_id = derived_request_id(made.NOW_MS - 50, f"request {number}")
        request = ReasoningRequested(question="2+2?", request_id=request_id, tags={"task": task} if task else {})
        plan, *_ = await decomposer.handle(request, Arrival("event", request_id, made.NOW_MS, made.NOW_MS, "r/0/1"))
        assert isinstance(plan, PlanMade)
        assert plan.assignment is not None
        assert (plan.arm, plan.assignment.segment, plan.propensity) == (*expected, 1.0)


def test_units_of_before_a_segment_was_named_stay_the_rest_s() -> None:
    change = started()
    (first,) = versions_of(change, [evidence(*UNNAMED)])
    strata = strata_of(change.definition, evidence(*UNNAMED, *DIFFERENT), first.segments)
    assert strata[""]["a"].counts["reward"].num_units == 60
    assert strata["sums"]["a"].counts["reward"].num_units == 200


async def test_what_a_decomposer_dealt_and_a_reweighter_decided_in_turns_is_all_computed_again() -> None:
    """Two types of task of which each has another best arm; users of a type like its best arm nine times in ten."""
    trial = pinned(made.experiment(mode=Mode.REGRET, segment_by="task", holdout=0.1, min_observations=10), shipped())
    change, rng = made.started(trial), random.Random(11)
    decomposer = Decomposer(DecomposerSettings(), CurrentPolicies("default"))
    decomposer.hear(change)
    versions, assigned, said = list[WeightsPublished](), list[Assigned](), Counter[tuple[str, str, int, str]]()
    for number in range(600):
        task, request_id = rng.choice(("sums", "words")), derived_request_id(made.NOW_MS - 50, f"request {number}")
        request = ReasoningRequested(question="2+2?", request_id=request_id, tags={"task": task})
        plan, *_ = await decomposer.handle(request, Arrival("event", request_id, made.NOW_MS, made.NOW_MS, "r/0/1"))
        assert isinstance(plan, PlanMade)
        of, version = plan.assignment, plan.weights_version
        assert of is not None
        assert version is not None
        assigned.append(
            Assigned(request_id, of.revision, of.unit, of.draw, plan.arm, plan.propensity, version, of.segment)
        )
        is_best = plan.arm == {"sums": "a", "words": "b"}[task]
        said[plan.arm, task, version, "good" if rng.random() < (0.9 if is_best else 0.3) else "bad"] += 1
        if number % 60 == 59:
            look = evidence(
                *(
                    cell(
                        arm,
                        said[arm, of, of_version, "good"] + said[arm, of, of_version, "bad"],
                        said[arm, of, of_version, "good"],
                        segment=of,
                        version=of_version,
                    )
                    for arm, of, of_version in sorted({key[:3] for key in said})
                )
            )
            found = next_weights(change, look, versions[-1] if versions else None, {"reasoning.feedback/0": number})
            if found is not None:
                assert list(check_evidence(change, look, found, versions[-1] if versions else None)) == []
                versions.append(found)
                decomposer.hear(found)
    assert list(check_weights([change], versions)) == []
    assert list(check_assignments([change], versions, assigned)) == []
    last = versions[-1].segments
    assert last["sums"].allocation["a"] > 0.7
    assert last["words"].allocation["b"] > 0.7


class Kept(MemoryTrials):
    """A record with an experiment of which a segment is named."""

    def __init__(self, dsn: str) -> None:
        super().__init__()

    async def shadows(self, experiment: str) -> list[dict[str, object]]:
        return []

    async def close(self) -> None:
        pass


def test_the_command_tells_each_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conclave.cli.experiments.Learning", Kept)
    dsn = {"CONCLAVE_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/none"}
    told = CliRunner().invoke(commands, ["report", "sure-or-plain"], env=dsn)
    assert told.exit_code == 0, told.output
    assert "by task; correlation 0.100" in told.output
    assert [line.split()[:2] for line in told.output.splitlines() if line.startswith("sums")] == [
        ["sums", "plain"],
        ["sums", "sure"],
    ]
    shown = CliRunner().invoke(commands, ["show", "sure-or-plain", "--running"], env=dsn)
    assert json.loads(shown.output)["segments"]["sums"] == {"plain": 0.7, "sure": pytest.approx(0.3)}
