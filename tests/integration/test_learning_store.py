"""Evidence on a real server: feedback early, late, twice, replaced, withdrawn and for nothing known; and as of a watermark."""

from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from conclave.domain.experiments.evidence import key_of
from conclave.domain.experiments.reweighting import next_weights
from conclave.domain.experiments.verification import check_evidence, check_weights
from conclave.testing import events as made
from schemas.events import ReasoningRequested, RequestFailed
from schemas.experiments import Assignment, Metric, MetricCounts, Mode, Rater
from schemas.ids import derived_request_id
from schemas.values import RequestFailure
from tests.integration.recorded_evidence import CHANGE, CLICKED, EXPERTS, OLD_S, QUICK, TRIAL, WINDOW_S, evidence_of
from tests.record_of_events import NOW_MS, Recorded


async def counts(record: Recorded, arm: str = "a", metric: Metric = TRIAL.goal, **how: Any) -> MetricCounts:
    return (await evidence_of(record, **how)).of(key_of(metric), arm)


def observed(*rewards: float, num_units: int | None = None, **others: int) -> MetricCounts:
    """The counts of units whose window has passed."""
    num = len(rewards) if num_units is None else num_units
    return MetricCounts(num_units=num, num_observed=len(rewards), sum_micro=round(sum(rewards) * 1e6), **others)


async def test_silence_is_pending_until_its_window_has_passed_and_missing_then(record: Recorded) -> None:
    await record.assigned("a")
    await record.assigned("a", age_s=OLD_S)
    await record.judged(await record.assigned("a"), 1.0)
    await record.judged(await record.assigned("a", age_s=OLD_S), 0.25)
    assert await counts(record) == observed(
        0.25, num_units=4, num_early=1, early_micro=1_000_000, num_pending=1, num_missing=1
    )
    assert await counts(record, "b") == MetricCounts()


async def test_feedback_may_come_before_its_trace(record: Recorded) -> None:
    request_id = derived_request_id(NOW_MS - round(OLD_S * 1000), "early bird")
    await record.judged(request_id, 1.0, after_s=-1.0)
    assert await counts(record) == MetricCounts()
    assignment = Assignment(experiment="trial", revision=1, unit=request_id, draw=1)
    await record.put(replace(made.plan(), request_id=request_id, arm="a", weights_version=0, assignment=assignment))
    assert await counts(record) == observed(1.0)


async def test_feedback_after_its_window_is_kept_and_does_not_count(record: Recorded) -> None:
    request_id = await record.assigned("a", age_s=OLD_S)
    await record.judged(request_id, 1.0, after_s=WINDOW_S + 1)
    assert await counts(record) == MetricCounts(num_units=1, num_missing=1)
    assert await _held(record, request_id) == [(1.0, True)]


async def test_feedback_given_twice_is_one_and_of_unknown_requests_none(record: Recorded) -> None:
    request_id = await record.assigned("a", age_s=OLD_S)
    for _ in range(3):
        await record.judged(request_id, 1.0, event_id="same", event_source="/shop")
        await record.judged(request_id, 1.0, feedback_id="also the same")
    await record.judged(derived_request_id(NOW_MS - 5000, "nobody's"), 0.0)
    assert await counts(record) == observed(1.0)


async def test_the_latest_word_of_a_source_holds_and_several_sources_are_averaged(record: Recorded) -> None:
    request_id = await record.assigned("a", age_s=OLD_S)
    await record.judged(request_id, 0.0, after_s=1)
    await record.judged(request_id, 1.0, after_s=2)
    await record.judged(request_id, 0.5, after_s=3, source="someone else")
    assert await counts(record) == observed(0.75)


@pytest.mark.parametrize("is_correction_first", [False, True])
async def test_a_correction_replaces_what_it_names_in_whatever_order_they_come(
    record: Recorded, is_correction_first: bool
) -> None:
    request_id = await record.assigned("a", age_s=OLD_S)
    words: list[dict[str, Any]] = [
        {"reward": 0.0, "event_id": "first", "after_s": 2},
        {"reward": 1.0, "event_id": "second", "after_s": 1, "supersedes": "first"},
    ]
    for word in reversed(words) if is_correction_first else words:
        await record.judged(request_id, **word)
    assert await counts(record) == observed(1.0)
    assert sorted(await _held(record, request_id)) == [(0.0, False), (1.0, True)]


async def test_what_is_withdrawn_counts_no_more_and_brings_nothing_back(record: Recorded) -> None:
    request_id = await record.assigned("a", age_s=OLD_S)
    await record.judged(request_id, 0.0, event_id="first", after_s=1)
    await record.judged(request_id, 1.0, event_id="second", after_s=2)
    await record.judged(request_id, None, supersedes="second", is_withdrawn=True, after_s=3)
    assert await counts(record) == MetricCounts(num_units=1, num_missing=1)
    assert not any(is_latest for _, is_latest in await _held(record, request_id))


async def test_metrics_raters_and_what_it_is_about_are_kept_apart(record: Recorded) -> None:
    request_id = await record.assigned("a", age_s=OLD_S)
    await record.judged(request_id, 1.0, metric="clicked")
    await record.judged(request_id, 0.0, step_index=0)
    await record.judged(request_id, 0.0, step_index=0, sample_index=3)
    assert await counts(record) == MetricCounts(num_units=1, num_missing=1)
    assert await counts(record, metric=CLICKED) == observed(1.0)
    await record.judged(request_id, None, rating=4, scale=5, rater=Rater.EXPERT)
    assert await counts(record, metric=EXPERTS) == observed(0.75)
    assert await counts(record) == observed(0.75)
    assert len(await _held(record, request_id)) == 4


async def test_figures_of_answers_are_metrics_too(record: Recorded) -> None:
    quick, slow, failed = [await record.assigned("a", age_s=OLD_S) for _ in range(3)]
    late = NOW_MS - round(OLD_S * 1000) + 2000
    await record.put(made.answer(request_id=quick, elapsed_ms=80.0), at_ms=late)
    await record.put(made.answer(request_id=slow, elapsed_ms=180.0), at_ms=late)
    await record.put(RequestFailed(request_id=failed, failure=RequestFailure.NO_ANSWER, message="no"), at_ms=late)
    await record.assigned("a", age_s=OLD_S)  # never answered
    evidence = await evidence_of(record)
    assert evidence.of("answered", "a") == observed(1.0, 1.0, 0.0, num_units=4, num_missing=1)
    assert evidence.of(key_of(QUICK), "a") == observed(1.0, 0.0, 0.0, num_units=4, num_missing=1)


async def test_a_unit_counts_once_by_its_first_arm_within_its_window(record: Recorded) -> None:
    first = await record.assigned("a", age_s=OLD_S, unit="ann", version=1)
    second = await record.assigned("a", age_s=OLD_S - 5, unit="ann", version=2)
    moved = await record.assigned("b", age_s=OLD_S - 10, unit="ann", version=3)
    later = await record.assigned("a", age_s=50, unit="ann", version=4)
    for request_id, reward in ((first, 1.0), (second, 0.0), (moved, 1.0), (later, 1.0)):
        await record.judged(request_id, reward)
    evidence = await evidence_of(record)
    assert evidence.by_deal("reward") == {(1, ""): {"a": observed(0.5)}}


async def test_units_are_told_apart_by_segment_once_there_are_enough_and_counted_again_as_they_were(
    record: Recorded,
) -> None:
    definition = replace(TRIAL, mode=Mode.REGRET, segment_by="task", max_segments=2, min_observations=2, guardrails=())
    change = replace(CHANGE, definition=definition)
    await record.put(change)
    for segment, arm, reward in (
        *((segment, arm, 0.5) for segment in ("sums", "words", "") for arm in "aabb"),
        ("odd", "a", 1.0),
        (None, "b", 0.5),  # by a decomposer that knew no segments
    ):
        await record.judged(await record.assigned(arm, age_s=OLD_S, segment=segment), reward)
    evidence, watermark = await record.learning.evidence(change, since_ms=change.changed_ms, as_of_ms=NOW_MS)
    found = {(cell.segment, cell.arm): cell.counts.num_units for cell in evidence.cells if cell.metric == "reward"}
    assert found == {
        ("sums", "a"): 2,
        ("sums", "b"): 2,
        ("words", "a"): 2,
        ("words", "b"): 2,
        ("", "a"): 3,
        ("", "b"): 3,
    }
    first = next_weights(change, evidence, None, watermark)
    assert first is not None
    assert list(first.segments) == ["sums", "words"]
    await record.learning.keep(first, NOW_MS)
    twice = await record.assigned("a", age_s=OLD_S, unit="ann", segment="sums", version=1)
    await record.judged(await record.assigned("a", age_s=OLD_S - 1, unit="ann", segment="words", version=1), 0.0)
    await record.judged(twice, 1.0)
    for _ in range(5):  # more of them than of any that is named
        await record.judged(await record.assigned("b", age_s=OLD_S, segment="late", version=1), 1.0)
    for _ in range(4):
        await record.judged(await record.assigned("b", age_s=OLD_S, segment="sums", version=1), 1.0)
    evidence, watermark = await record.learning.evidence(
        change, since_ms=change.changed_ms, as_of_ms=NOW_MS, after=first
    )
    assert {cell.segment for cell in evidence.cells} == {"", "sums", "words"}, "what is named keeps its place"
    second = next_weights(change, evidence, first, watermark)
    assert second is not None
    sums = second.segments["sums"].states
    assert (sums["a"].counts["reward"], sums["b"].counts["reward"]) == (observed(1.0), observed(1.0, 1.0, 1.0, 1.0))
    assert second.segments["words"].states["a"].counts["reward"].num_units == 0, (
        "a unit is of its first request's segment"
    )
    await record.learning.keep(second, NOW_MS)
    await record.judged(await record.assigned("a", age_s=OLD_S, segment="late", version=2), 0.0)
    for weights, before in ((first, None), (second, first)):
        again, _ = await record.learning.evidence(
            change, since_ms=change.changed_ms, as_of_ms=weights.as_of_ms, watermark=weights.watermark, after=before
        )
        assert list(check_evidence(change, again, weights, before)) == []
    assert list(check_weights([change], await record.learning.versions("trial"))) == []
    assert [each.segment for each in await record.learning.assignments("trial")].count("sums") == 9
    async with record.learning._reading() as connection:
        await connection.execute(text("SET LOCAL ROLE analyst"))
        ratio = (await connection.execute(text("SELECT segment, sum(assigned) FROM sample_ratio GROUP BY 1"))).all()
        outcomes = await connection.execute(text("SELECT count(*) FROM experiment_outcomes WHERE segment = 'sums'"))
        assert outcomes.scalar_one() == 9
    assert dict(tuple(row) for row in ratio) == {"sums": 9, "words": 5, "": 4, "odd": 1, "late": 6}


async def test_the_same_watermark_gives_the_same_counts_whatever_came_since(record: Recorded) -> None:
    request_id = await record.assigned("a", age_s=OLD_S)
    await record.judged(request_id, 1.0)
    before, watermark = await record.learning.evidence(CHANGE, since_ms=CHANGE.changed_ms, as_of_ms=NOW_MS)
    assert watermark["reasoning.feedback/0"] == 1
    await record.judged(request_id, 0.0, after_s=5)
    await record.judged(await record.assigned("a", age_s=OLD_S), 0.0)
    assert await evidence_of(record, watermark=watermark) == before
    assert await evidence_of(record) != before


async def _held(record: Recorded, request_id: str) -> list[tuple[float, bool]]:
    """Reward of each piece of feedback, and whether it holds."""
    await record.put(ReasoningRequested(question="q?", request_id=request_id))
    query = text(
        "SELECT reward, is_latest FROM given_feedback WHERE request_id = :id AND NOT is_withdrawn ORDER BY given_at"
    )
    async with record.learning._reading() as connection:
        rows = (await connection.execute(query, {"id": request_id})).all()
    return [(row[0], row[1]) for row in rows]
