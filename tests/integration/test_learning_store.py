"""Evidence on a real server: feedback early, late, twice, replaced, withdrawn and for nothing known; and as of a watermark."""

import asyncio
import importlib
import itertools
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import md5
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from conclave.domain.counterfactual.again import replayed
from conclave.domain.experiments.evidence import Evidence, key_of
from conclave.domain.experiments.reweighting import next_weights
from conclave.domain.experiments.verification import check_evidence, check_weights
from conclave.store.erasure import BLANKED, KEPT, erase, tagged
from conclave.store.figures import RecordFigures
from conclave.store.judged_votes import judged_votes
from conclave.store.listing import Filter
from conclave.store.reader import Reader
from conclave.store.reviews import Reviews
from conclave.store.rows import TABLES
from conclave.store.stored_requests import stored_requests
from conclave.store.view import RecordView
from conclave.testing import events as made
from schemas.events import Event, ExperimentChanged, ReasoningRequested, RequestFailed, TextStored
from schemas.experiments import Assignment, Guardrail, Metric, MetricCounts, Mode, Rater
from schemas.ids import derived_request_id, new_request_id
from schemas.values import Ballot, PathFailure, RequestFailure, TallyRow
from tests.played import Played
from tests.record_of_events import NOW_MS, Recorded, empty_record

WINDOW_S = 100.0
CLICKED = Metric(name="clicked", missing=0.0)
QUICK = Metric(name="within_ms", limit=100.0, missing=0.0)
EXPERTS = Metric(raters=(Rater.EXPERT,))
TRIAL = made.experiment(
    window_s=WINDOW_S,
    guardrails=tuple(Guardrail(metric=each, at_least=0.5) for each in (CLICKED, QUICK, EXPERTS)),
)
CHANGE = made.started(TRIAL, changed_ms=NOW_MS - 3_600_000)


@pytest.fixture
async def record(fresh_database: str) -> AsyncIterator[Recorded]:
    async with empty_record(fresh_database) as record:
        yield record


async def evidence_of(record: Recorded, **how: Any) -> Evidence:
    found, _ = await record.learning.evidence(CHANGE, since_ms=CHANGE.changed_ms, as_of_ms=NOW_MS, **how)
    return found


async def counts(record: Recorded, arm: str = "a", metric: Metric = TRIAL.goal, **how: Any) -> MetricCounts:
    return (await evidence_of(record, **how)).of(key_of(metric), arm)


def observed(*rewards: float, num_units: int | None = None, **others: int) -> MetricCounts:
    """The counts of units whose window has passed."""
    num = len(rewards) if num_units is None else num_units
    return MetricCounts(num_units=num, num_observed=len(rewards), sum_micro=round(sum(rewards) * 1e6), **others)


OLD_S = 2 * WINDOW_S  # a request whose window has passed


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


async def test_what_is_withdrawn_is_no_feedback_in_lists_and_figures_either(
    record: Recorded, fresh_database: str
) -> None:
    request_id = await record.assigned("a", age_s=OLD_S)
    await record.put(ReasoningRequested(question="q?", request_id=request_id))
    await record.put(made.answer(request_id=request_id))
    await record.judged(request_id, 0.0, event_id="first")
    reader = Reader(fresh_database)
    view, figures = RecordView(reader), RecordFigures(reader)
    (line,) = (await view.requests(Filter(has_feedback=True))).lines
    (of_policy,) = await figures.policies()
    assert (line.reward, of_policy.num_said, of_policy.reward) == (0.0, 1, 0.0)
    await record.judged(request_id, None, supersedes="first", is_withdrawn=True, after_s=2)
    assert (await view.requests(Filter(has_feedback=True))).lines == ()
    (line,), (of_policy,) = (await view.requests(Filter())).lines, await figures.policies()
    assert (line.reward, of_policy.num_said, of_policy.reward) == (None, 0, None)
    assert await figures.contradicted() == ()
    await reader.close()


async def test_what_verdicts_count_is_what_their_ballots_say(record: Recorded) -> None:
    rng = random.Random(4)
    for number in range(40):
        request_id = derived_request_id(NOW_MS - number, f"counted {number}")
        answers = [rng.choice(("a", "b", "c", None)) for _ in range(rng.randint(1, 12))]
        ballots = tuple(
            Ballot(sample_index=at, answer=answer, failure=PathFailure.ENGINE if rng.random() < 0.1 else None)
            for at, answer in enumerate(answers)
        )
        winner = next((answer for answer in answers if answer), None)
        await record.put(made.verdict(request_id=request_id, answer=winner, ballots=ballots))
    counts_hold = text("""
        SELECT v.num_votes = count(b.answer) FILTER (WHERE b.failure IS NULL)
               AND v.num_for_winner = count(*) FILTER (WHERE b.failure IS NULL AND b.answer = v.answer)
        FROM verdicts v JOIN ballots b USING (asked_at, request_id, step_index)
        GROUP BY v.request_id, v.num_votes, v.num_for_winner, v.answer
    """)
    of_ballots = text(_flips_of_ballots())
    async with record.learning._reading() as connection:
        assert list((await connection.execute(counts_hold)).scalars()) == [True] * 40
        (arm,) = (await connection.execute(text("SELECT * FROM arm_votes"))).mappings()
        flips = (await connection.execute(text("SELECT * FROM flipped_votes ORDER BY 1, 2, 3, 4"))).all()
        assert flips == (await connection.execute(of_ballots)).all()
        known = text("SELECT sum(num_flips), count(*) FILTER (WHERE num_flips > 0) FROM verdicts")
        assert tuple((await connection.execute(known)).one()) == (arm["flips"], arm["flipped_steps"])
    assert arm["steps"] == 40
    assert arm["flips"] == len(flips) > 0


def _flips_of_ballots() -> str:
    """The query that the record was asked before verdicts knew it: all ballots, in windows."""
    migration = importlib.import_module("migrations.versions.0018_verdict_counts")
    return f"{migration._OF_BALLOTS} ORDER BY 1, 2, 3, 4"


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


async def test_changes_versions_and_assignments_are_read_as_they_were_written(record: Recorded) -> None:
    await record.put(CHANGE)
    await record.put(made.started(TRIAL, revision=2))
    assert [each.revision for each in await record.learning.changes("trial")] == [1, 2]
    assert (await record.learning.changes())[0] == CHANGE
    assert await record.learning.changes("other") == []
    for arm, reward in [("a", 0.0)] * 20 + [("b", 1.0)] * 20:
        await record.judged(await record.assigned(arm, age_s=OLD_S), reward)
    evidence, watermark = await record.learning.evidence(CHANGE, since_ms=CHANGE.changed_ms, as_of_ms=NOW_MS)
    weights = next_weights(_regret(CHANGE), evidence, None, watermark)
    assert weights is not None
    assert await record.learning.latest("trial") is None
    assert await record.learning.keep(weights, NOW_MS)
    assert not await record.learning.keep(weights, NOW_MS)
    assert await record.learning.latest("trial") == weights
    assert await record.learning.versions("trial") == [weights]
    assert len(await record.learning.assignments("trial")) == 40


async def test_judged_votes_come_with_their_ballots_and_the_best_that_is_known_of_what_is_right(
    record: Recorded, fresh_database: str
) -> None:
    liked, corrected, silent = [str(new_request_id()) for _ in range(3)]
    for request_id in (liked, corrected, silent):
        path = made.decoded(made.context(request_id=request_id), 0, 16, "4")
        ballots = tuple(Ballot(sample_index=index, answer="45"[index > 1], mean_logprob=-0.5) for index in range(3))
        await record.put(replace(made.plan(of=made.policy()), request_id=request_id))
        await record.put(path)
        await record.put(made.verdict(request_id=request_id, ballots=ballots))
        await record.put(made.answer(request_id=request_id))
    await record.judged(liked, 1.0)
    await record.judged(corrected, None, right_answer="4.0")
    await record.judged(corrected, None, right_answer="5", rater=Rater.EXPERT, source="ann")
    await record.judged(corrected, 0.0, step_index=0)
    digest = made.policy().digest
    votes = {vote.request_id: vote for vote in await judged_votes(fresh_database, policy_digest=digest, ask="whole")}
    assert votes.keys() == {liked, corrected}
    assert (votes[liked].reward, votes[liked].right_answer, votes[liked].is_right) == (1.0, None, True)
    assert (votes[corrected].right_answer, votes[corrected].is_right) == ("5", False)
    assert [ballot.answer for ballot in votes[liked].ballots] == ["4", "4", "5"]
    assert await judged_votes(fresh_database, policy_digest="another", ask="whole") == []


async def test_stored_requests_come_to_the_same_again_with_what_was_said_of_them(
    record: Recorded, fresh_database: str
) -> None:
    policies, ids = ("default", "least-to-most", "escalate"), []
    for number, policy in enumerate(policies):
        ids.append(str(derived_request_id(NOW_MS - 1000 + number, f"again {number}")))
        played = Played(ids[-1], "How many has Tom?", policy, 432, NOW_MS - 1000 + number, random.Random(number))
        for recorded in await played.play():
            await record.put(recorded.event)
    await record.judged(ids[0], 0.25)
    await record.judged(ids[1], 1.0, right_answer="7", source="ann")
    await record.judged(ids[1], None, right_answer="432", source="key", rater=Rater.PROGRAM)
    since = datetime.fromtimestamp(NOW_MS / 1000 - 60, UTC)
    found = await stored_requests(fresh_database, since=since, limit=10)
    assert [each.request_id for each in found] == ids
    for each, policy in zip(found, policies, strict=True):
        assert each.policy == made.policy(policy)
        again = replayed(each, each.policy)
        assert (again.unknown, again.answer, again.num_samples) == (None, each.answer, each.num_samples)
        assert again.tokens_out == each.tokens_out > 0
    assert [(each.reward, each.right_answer) for each in found] == [(0.25, None), (1.0, "432"), (None, None)]
    assert [each.policy.name for each in await stored_requests(fresh_database, since=since, limit=1)] == ["escalate"]
    (only,) = await stored_requests(fresh_database, since=since, limit=9, served_by="default")
    assert only.request_id == ids[0]
    await erase(fresh_database, [ids[0]])
    assert await stored_requests(fresh_database, since=since, limit=9, served_by="default") == []
    later = datetime.fromtimestamp(NOW_MS / 1000 + 60, UTC)
    assert await stored_requests(fresh_database, since=later, limit=9) == []


def _regret(change: ExperimentChanged) -> ExperimentChanged:
    return replace(change, definition=replace(change.definition, mode=Mode.REGRET))


async def _held(record: Recorded, request_id: str) -> list[tuple[float, bool]]:
    """Reward of each piece of feedback, and whether it holds."""
    await record.put(ReasoningRequested(question="q?", request_id=request_id))
    query = text(
        "SELECT reward, is_latest FROM given_feedback WHERE request_id = :id AND NOT is_withdrawn ORDER BY given_at"
    )
    async with record.learning._reading() as connection:
        rows = (await connection.execute(query, {"id": request_id})).all()
    return [(row[0], row[1]) for row in rows]


_VIEWS = (
    "experiment_exposures", "experiment_outcomes", "arms_by_day", "sample_ratio", "feedback_lag", "calibration_bins",
    "worst_questions", "review_queue", "orphan_feedback", "experiment_history", "weights_history",
)  # fmt: skip


async def test_analysts_see_exposures_outcomes_and_how_well_answers_were_calibrated(record: Recorded) -> None:
    for arm, reward in (("a", 1.0), ("b", 0.0), ("b", 1.0)):
        request_id = await record.assigned(arm, unit=f"user {reward}")
        await record.put(made.answer(request_id=request_id, confidence=0.95, elapsed_ms=80.0))
        await record.judged(request_id, reward, comment="well")
    await record.assigned("a")
    await record.judged(str(derived_request_id(NOW_MS, "nobody's")), 1.0)
    views: dict[str, list[dict[str, Any]]] = {}
    async with record.learning._reading() as connection:
        await connection.execute(text("SET LOCAL ROLE analyst"))
        for view in _VIEWS:
            rows = (await connection.execute(text(f"SELECT * FROM {view}"))).mappings()
            views[view] = [dict(row) for row in rows]
    exposed = {(row["user_id"], row["variation_id"]) for row in views["experiment_exposures"]}
    assert {("user 1.0", "a"), ("user 0.0", "b"), ("user 1.0", "b")} < exposed
    by_arm = {row["arm"]: row for row in views["arms_by_day"]}
    assert (by_arm["a"]["requests"], by_arm["a"]["answered"], by_arm["a"]["judged"]) == (2, 1, 1)
    assert (by_arm["b"]["mean_reward"], by_arm["b"]["mean_ms"]) == (0.5, 80.0)
    assert {(row["arm"], row["assigned"], row["expected"]) for row in views["sample_ratio"]} == {
        ("a", 2, 4.0),
        ("b", 2, 4.0),
    }
    (bin_,) = views["calibration_bins"]
    assert (bin_["bin"], bin_["judged"], round(bin_["mean_reward"], 3)) == (9, 3, 0.667)
    assert [row["reward"] for row in views["worst_questions"]] == [0.0]
    (disliked,) = [row for row in views["review_queue"] if "disliked" in row["reasons"]]
    assert disliked["reward"] == 0.0
    await record.judged(str(disliked["request_id"]), 0.0, rater=Rater.EXPERT, source="ann")
    async with record.learning._reading() as connection:
        reviews = (await connection.execute(text("SELECT request_id, num_reviews FROM review_queue"))).all()
    assert (disliked["request_id"], 1) in reviews
    assert sum(row["pieces"] for row in views["feedback_lag"]) == 4
    assert len(views["orphan_feedback"]) == 4  # no request was recorded


async def _answered(record: Recorded, number: int, *, margin: float = 1.0) -> str:
    """The id of a recorded request with its answer; the later its number, the later it was asked."""
    ids = (str(derived_request_id(NOW_MS - 60_000 + number, f"to review {place}")) for place in itertools.count())
    request_id = next(
        each for each in ids if int(md5(each.encode()).hexdigest()[:4], 16) >= 65536 // 50
    )  # not at random
    await record.put(ReasoningRequested(question=f"question {number}?", request_id=request_id))
    await record.put(made.answer(request_id=request_id, margin=margin))
    return request_id


async def test_an_answer_is_leased_to_as_many_reviewers_as_are_wanted_and_judged_once_by_each(
    record: Recorded, fresh_database: str
) -> None:
    first, second = [await _answered(record, number, margin=0.05) for number in (1, 2)]
    reviews = Reviews(fresh_database)
    since = datetime.fromtimestamp(NOW_MS / 1000 - 3600, UTC)

    async def take(reviewer: str, lease_s: float = 60.0) -> str | None:
        item = await reviews.claim(reviewer, since=since, num_reviewers=2, lease_s=lease_s)
        return None if item is None else item.request_id

    assert await reviews.claimed("ann") is None
    assert [await take(each) for each in ("ann", "ann", "bob")] == [second, second, second]  # the newest first
    assert await take("cid") == first  # two have the other one in hand
    item = await reviews.claimed("ann")
    assert item is not None
    assert (item.question, item.answer, item.reasons) == ("question 2?", "4", ("low margin",))
    assert item.tally == (("4", 4),)
    await reviews.skipped("bob", second)
    assert [await take("dan"), await take("bob")] == [second, first]
    await reviews.judged("ann", second)  # published, and not recorded yet: ann is not asked again, and it counts
    assert [await take("ann"), await take("eve")] == [None, None]
    await record.judged(second, 1.0, rater=Rater.EXPERT, source="ann")
    assert [
        (each.request_id, each.num_reviews) for each in await reviews.open(since=since, num_reviewers=2, limit=9)
    ] == [
        (second, 1),
        (first, 0),
    ]
    assert [each.request_id for each in await reviews.open(since=since, num_reviewers=2, limit=9, num_latest=1)] == [
        second
    ]
    async with record.learning._reading() as connection:
        queue = text("SELECT request_id FROM review_queue ORDER BY asked_at DESC, request_id DESC")
        whole = [str(each) for each in (await connection.execute(queue)).scalars()]
    assert [each.request_id for each in await reviews.open(since=since, num_reviewers=2, limit=9)] == whole
    await record.judged(second, 0.0, rater=Rater.EXPERT, source="dan")
    assert [each.request_id for each in await reviews.open(since=since, num_reviewers=2, limit=9)] == [first]
    assert await reviews.judgements(since) == [[True, False]]
    await reviews.close()


async def test_a_lease_that_has_ended_is_another_s(record: Recorded, fresh_database: str) -> None:
    request_id = await _answered(record, 1, margin=0.05)
    reviews, since = Reviews(fresh_database), datetime.fromtimestamp(NOW_MS / 1000 - 3600, UTC)
    for reviewer, lease_s in (("ann", -1.0), ("bob", 60.0)):
        item = await reviews.claim(reviewer, since=since, num_reviewers=1, lease_s=lease_s)
        assert item is not None
        assert item.request_id == request_id
    assert await reviews.claimed("ann") is None
    assert await reviews.claim("ann", since=since, num_reviewers=1, lease_s=60.0) is None
    await erase(fresh_database, [request_id])
    assert await reviews.open(since=since, num_reviewers=1, limit=9) == []
    await reviews.close()


async def test_several_reviewers_who_ask_at_once_get_no_answer_more_often_than_wanted(
    record: Recorded, fresh_database: str
) -> None:
    asked = [await _answered(record, number, margin=0.05) for number in range(3)]
    reviews, since = Reviews(fresh_database), datetime.fromtimestamp(NOW_MS / 1000 - 3600, UTC)
    claims = (reviews.claim(f"r{number}", since=since, num_reviewers=1, lease_s=60.0) for number in range(5))
    found = [item.request_id for item in await asyncio.gather(*claims) if item is not None]
    assert sorted(found) == sorted(asked)
    await reviews.close()


async def test_every_column_that_can_hold_words_is_blanked_or_known_to_hold_none(record: Recorded) -> None:
    query = text("""
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type IN ('text', 'jsonb', 'ARRAY')
    """)
    async with record.learning._reading() as connection:
        found = {(row[0], row[1]) for row in await connection.execute(query)}
    numbers = {("steps", "depends_on")}
    for table in TABLES:
        columns = {column for of, column in found if of == table} - {name for of, name in numbers if of == table}
        assert columns == {*BLANKED.get(table, ()), *KEPT.get(table, ())}, table


async def test_nothing_of_what_a_user_wrote_is_left_and_redelivery_does_not_bring_it_back(
    record: Recorded, fresh_database: str
) -> None:
    secret = "S3CR3T"
    kept = await record.assigned("a", age_s=OLD_S)
    request_id = await record.assigned("a", age_s=OLD_S, unit=secret)
    asked = ReasoningRequested(question=secret, request_id=request_id, tags={"user": secret})
    context = made.context(request_id=request_id, fields={"question": secret}, why=secret, mark=secret)
    path = replace(made.decoded(context, 0, 16, secret), text=secret, reasoning=secret)
    ballots = (Ballot(sample_index=0, answer=secret),)
    tally = (TallyRow(answer=secret, votes=1, weight=1.0),)
    events: list[Event] = [
        asked,
        path,
        TextStored(request_id=request_id, digest="0" * 64, chunk_index=0, text=secret),
        made.verdict(request_id=request_id, answer=secret, ballots=ballots, tally=tally),
        made.answer(secret, request_id=request_id, tally=tally),
    ]
    for event in events:
        await record.put(event)
    await record.judged(
        request_id,
        1.0,
        event_id="opinion",
        source=secret,
        comment=secret,
        right_answer=secret,
        chosen=secret,
        rejected=secret,
    )
    before = await evidence_of(record)
    assert secret in await _all_that_is_stored(record)
    assert await tagged(fresh_database, "user", secret) == [request_id]
    assert await erase(fresh_database, [request_id]) > 10
    for event in events:
        await record.put(event)
    assert secret not in await _all_that_is_stored(record)
    assert await evidence_of(record) == before
    assert {each.unit for each in await record.learning.assignments("trial")} == {kept, None}
    assert await tagged(fresh_database, "user", secret) == []
    assert await erase(fresh_database, []) == 0


async def _all_that_is_stored(record: Recorded) -> str:
    """Every row of every table of the record, as text."""
    found = []
    async with record.learning._reading() as connection:
        for table in TABLES:
            found += [str(tuple(row)) for row in await connection.execute(text(f"SELECT * FROM {table}"))]
    return "\n".join(found)
