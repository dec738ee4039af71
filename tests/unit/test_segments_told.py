"""Segments of an experiment where they are dealt, told and checked: decomposer, receipts, report and command."""

import json
import random
from collections import Counter

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from conclave.cli.experiments import experiment as commands
from conclave.domain.experiments.assignment import arm_at, draw
from conclave.domain.experiments.evidence import Evidence
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
from conclave.domain.experiments.reweighting import next_weights
from conclave.domain.experiments.verification import Assigned, check_assignments, check_evidence, check_weights
from conclave.experiments import pinned
from conclave.policies import shipped
from conclave.policies.current import CurrentPolicies
from conclave.runtime.handler import Arrival
from conclave.testing import events as made
from schemas.events import ExperimentChanged, PlanMade, ReasoningRequested, WeightsPublished
from schemas.experiments import Mode, SegmentWeights
from schemas.ids import derived_request_id
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings
from tests.memory_view import MemoryTrials
from tests.segmented import ALIKE, DIFFERENT, UNNAMED, cell, evidence, started, versions_of


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
