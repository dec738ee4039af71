"""What is read of the record to learn from, on a real server: changes, judged votes, stored requests, and analysts' views."""

import importlib
import random
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import text

from conclave.domain.counterfactual.again import replayed
from conclave.domain.experiments.reweighting import next_weights
from conclave.store.erasure import erase
from conclave.store.figures import RecordFigures
from conclave.store.judged_votes import judged_votes
from conclave.store.listing import Filter
from conclave.store.reader import Reader
from conclave.store.stored_requests import stored_requests
from conclave.store.view import RecordView
from conclave.testing import events as made
from schemas.events import ExperimentChanged, ReasoningRequested
from schemas.experiments import Mode, Rater
from schemas.ids import derived_request_id, new_request_id
from schemas.values import Ballot, PathFailure
from tests.integration.recorded_evidence import CHANGE, OLD_S, TRIAL
from tests.played import Played
from tests.record_of_events import NOW_MS, Recorded


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
    figures = {"answer_logprob": -0.5, "lowest_group_logprob": -1.25, "tail_logprob": -0.25}
    for request_id in (liked, corrected, silent):
        path = replace(made.decoded(made.context(request_id=request_id), 0, 16, "4"), **figures)
        ballots = tuple(
            Ballot(sample_index=index, answer="45"[index > 1], mean_logprob=-0.5, tokens_out=16) for index in range(3)
        )
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
    weighed_by = ("mean_logprob", "tokens_out", *figures, "is_declined")
    assert [getattr(votes[liked].ballots[0], name) for name in weighed_by] == [-0.5, 16, *figures.values(), False]
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
