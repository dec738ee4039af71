"""Receipts of an experiment: whole, they check without the record; any byte changed, any line moved or gone is found."""

import random

from msgspec.structs import replace

from conclave.domain.experiments.assignment import arm_at, draw
from conclave.domain.experiments.evidence import Cell, Evidence
from conclave.domain.experiments.receipts import (
    AssignmentReceipt,
    ChangeReceipt,
    Receipt,
    VerdictReceipt,
    Vote,
    WeightsReceipt,
    check_receipts,
    end_of,
    written,
)
from conclave.domain.experiments.reweighting import next_weights
from conclave.domain.experiments.verification import Assigned
from conclave.testing import events as made
from schemas.events import WeightsPublished
from schemas.experiments import MetricCounts, Mode

CHANGE = made.started(made.experiment(mode=Mode.REGRET))
VERDICT = VerdictReceipt("r", 0, "majority", "confident", 0, 3, 2, (Vote(0, 0, 1.0), Vote(1, 1, 1.0), Vote(2, 0, 1.0)))


def evidence(num: int) -> Evidence:
    cells = [
        Cell("reward", arm, 0, 0, MetricCounts(num_units=num, num_observed=num, sum_micro=round(num * share * 1e6)))
        for arm, share in (("a", 0.4), ("b", 0.5))
    ]
    return Evidence(tuple(cells), made.NOW_MS)


def receipts() -> list[Receipt]:
    versions: list[WeightsPublished] = []
    found: list[Receipt] = [ChangeReceipt(CHANGE)]
    for num in (50, 100, 150):
        weights = next_weights(CHANGE, evidence(num), versions[-1] if versions else None, {"reasoning.feedback/0": num})
        assert weights is not None
        versions.append(weights)
        found.append(WeightsReceipt(weights, evidence(num).cells))
    for user in ("ann", "bob", None):
        drawn = draw(CHANGE.definition, user or "eve")
        arm = arm_at(versions[0].allocation, drawn)
        found.append(AssignmentReceipt(Assigned(f"of {user}", 1, user, drawn, arm.arm, arm.propensity, 1)))
    return [*found, VERDICT, replace(VERDICT, votes=())]


def whole(of: list[Receipt]) -> list[bytes]:
    return list(written([*of, end_of(of)]))


def test_a_whole_file_checks_and_says_what_there_is() -> None:
    end, deviations = check_receipts(whole(receipts()))
    assert deviations == []
    assert end is not None
    assert (end.num_changes, end.num_weights, end.num_assignments, end.num_verdicts) == (1, 3, 3, 2)


def test_any_byte_changed_anywhere_is_found() -> None:
    raw, rng = b"".join(whole(receipts())), random.Random(5)
    for _ in range(400):
        at = rng.randrange(len(raw))
        changed = bytes([*raw[:at], raw[at] ^ (1 << rng.randrange(8)), *raw[at + 1 :]])
        assert check_receipts(changed.splitlines(keepends=True))[1], at


def test_a_line_that_is_gone_or_moved_or_comes_twice_is_found() -> None:
    lines = whole(receipts())
    for at in range(len(lines)):
        assert check_receipts([*lines[:at], *lines[at + 1 :]])[1], at
        assert check_receipts([*lines[: at + 1], *lines[at:]])[1], at
        if at:
            assert check_receipts([*lines[: at - 1], lines[at], lines[at - 1], *lines[at + 1 :]])[1], at
    assert check_receipts([])[1]


def test_what_was_written_anew_with_all_hashes_is_found_by_what_it_says() -> None:
    of = receipts()
    weights = of[2]
    assert isinstance(weights, WeightsReceipt)
    forged = replace(weights, event=replace(weights.event, allocation={"a": 0.9, "b": 0.1}))
    assert check_receipts(whole([*of[:2], forged, *of[3:]]))[1]
    miscounted = replace(weights, cells=evidence(99).cells)
    assert check_receipts(whole([*of[:2], miscounted, *of[3:]]))[1]
    bought = replace(VERDICT, winner=1)
    (wrong,) = check_receipts(whole([*of[:-2], bought]))[1]
    assert (wrong.where, wrong.expected, wrong.got) == (
        "request r, step 0, votes and those for the winner",
        "3, 1",
        "3, 2",
    )
