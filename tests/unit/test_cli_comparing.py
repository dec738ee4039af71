"""What `conclave compare` and `conclave fork` say, and how a fork goes through the services."""

import json
from typing import Any

import click
import pytest
from msgspec.structs import replace

from conclave.cli.comparing import print_ways, question_of, request_for, ways_of
from conclave.cli.forking import changes, kept_steps, recorded_way
from conclave.errors import Rejected
from conclave.testing import events as made
from schemas.events import AnswerReached, PlanMade, ReasoningRequested, RequestFailed, SampleRequested, StepDecided
from schemas.ids import new_request_id
from schemas.values import Fork, KeptStep, Outcome, Price, RequestFailure, Step, StepAnswer, TallyRow
from tests.unit.test_policies_end_to_end import Model, Pipeline

SPLIT = "1: How many has Tom?\n2 needs 1: Ann has twice #1. How many has she?\n3 needs 1 2: Add #1 and #2."


def kept(index: int, answer: str, ask: str = "whole", **step: Any) -> KeptStep:
    of = Step(index=index, ask=ask, fields={"question": "How many?"}, **step)
    tally = (TallyRow(answer=answer, votes=3, weight=3.0),)
    return KeptStep(step=of, outcome=Outcome.MAJORITY, answer=answer, confidence=0.9, margin=1.0, tally=tally)


def test_ways_are_set_side_by_side_and_one_that_differs_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    requests = [request_for("2+2?", policy=name) for name in ("default", "tree", "direct", "single")]
    ids = [str(each.request_id) for each in requests]
    ends: dict[str, AnswerReached | RequestFailed] = {
        ids[0]: replace(made.answer("4"), request_id=ids[0]),
        ids[1]: replace(made.answer("5", ended_by="budget"), request_id=ids[1]),
        ids[2]: RequestFailed(request_id=ids[2], failure=RequestFailure.DEADLINE, message="too late", tokens_out=7),
    }
    priced = replace(made.policy(), prices={"m": Price(tokens_in=1.0, tokens_out=2.0)})
    ways = ways_of(requests, ends, {ids[0]: priced})
    assert [(way.answer, way.is_same, way.ended_by) for way in ways] == [
        ("4", True, "decided"),
        ("5", False, "budget"),
        (None, None, "deadline: too late"),
        (None, None, "nothing came"),
    ]
    assert ways[0].dollars == pytest.approx((40 + 2 * 20) / 1_000_000)
    print_ways(ways)
    shown = capsys.readouterr().out
    assert "5 (differs)" in shown
    assert "nothing came" in shown


def test_what_cannot_be_asked_is_a_usage_error() -> None:
    with pytest.raises(click.UsageError):
        request_for("   ", policy="default")


def test_a_question_comes_from_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    async def trace(dsn: str, request_id: str) -> dict[str, list[dict[str, Any]]]:
        return {"request": [{"question": "2+2?"}] if request_id == made.REQUEST_ID else []}

    monkeypatch.setattr("conclave.store.queries.request_trace", trace)
    monkeypatch.setattr("conclave.cli.comparing.postgres_dsn", lambda: "postgresql://x")
    assert question_of(made.REQUEST_ID) == "2+2?"
    with pytest.raises(click.ClickException, match="nothing is recorded"):
        question_of(new_request_id())


def row(index: int, answer: str | None, **changed: Any) -> dict[str, Any]:
    """A step as the record has it."""
    tally = json.dumps([{"answer": answer, "votes": 3, "weight": 3.0}] if answer else [])
    step = {"step_index": index, "ask": "whole", "mark": f"#{index}", "depends_on": [], "fields": '{"question": "q"}'}
    return (
        step
        | {"why": "", "outcome": "majority", "answer": answer, "confidence": 0.9, "margin": 1.0, "tally": tally}
        | changed
    )


def test_recorded_steps_are_kept_as_they_were_decided() -> None:
    steps = [row(0, "3"), row(1, "6", depends_on=[0]), row(2, None, outcome=None)]
    request = request_for("q", policy="default", fork={"request_id": made.REQUEST_ID, "kept": kept_steps(steps, 2)})
    assert request.fork is not None
    assert [(each.step.mark, each.answer, each.step.depends_on) for each in request.fork.kept] == [
        ("#0", "3", ()),
        ("#1", "6", (0,)),
    ]
    for beyond, told in ((3, "step 2 was never decided"), (4, "has 3 steps")):
        with pytest.raises(click.UsageError, match=told):
            kept_steps(steps, beyond)


def test_what_a_fork_changed_is_told_step_by_step() -> None:
    steps = [row(0, "3"), row(1, "6"), row(2, "9"), row(3, "1")]
    after = [(0, "3"), (1, "6.0"), (2, "10"), (4, "8")]
    answers = tuple(
        StepAnswer(step_index=n, mark="", outcome=Outcome.MAJORITY, answer=a, confidence=0.9, num_samples=1)
        for n, a in after
    )
    assert changes(steps, made.answer("8", steps=answers), 1) == [
        "step 0: kept: 3",
        "step 1: 6.0 again",
        "step 2: 9 became 10",
        "#3: not asked any more; it was 1",
        "step 4: new: 8",
    ]
    old = {"policy": "tree", "answer": "9", "confidence": 0.5, "num_paths": 3, "tokens_in": 1, "tokens_out": 2}
    way = recorded_way(old | {"elapsed_ms": 1500.0, "failure": None, "ended_by": "decided", "request_id": "x"}, steps)
    assert (way.policy, way.seconds, way.steps) == ("tree (recorded)", 1.5, 4)


async def test_a_fork_keeps_its_first_steps_and_decodes_only_the_rest() -> None:
    pipeline = Pipeline(Model("36"))
    fork = Fork(
        request_id=made.REQUEST_ID,
        kept=(kept(0, SPLIT, "decompose", mark="split"), kept(1, "12", "sub_question", mark="#1", depends_on=(0,))),
    )
    end = await pipeline.answer(
        ReasoningRequested(question="How many?", request_id=made.REQUEST_ID, policy="least-to-most", fork=fork)
    )
    assert isinstance(end, AnswerReached)
    assert [(step.mark, step.answer) for step in end.steps] == [
        ("split", SPLIT),
        ("#1", "12"),
        ("#2", "36"),
        ("#3", "36"),
    ]
    (plan,) = [event for event in pipeline.events if isinstance(event, PlanMade)]
    assert plan.reasons == {"forked from": f"{made.REQUEST_ID}, 2 steps kept"}
    asked = [event.context.step for event in pipeline.events if isinstance(event, SampleRequested)]
    assert {step.index for step in asked} == {2, 3}
    assert asked[0].fields["earlier"] == "#1 = 12"
    recalled = [
        event for event in pipeline.events if isinstance(event, StepDecided) and event.stop_reason == "recalled"
    ]
    assert [(each.step_index, each.launched, each.agreement) for each in recalled] == [(0, 0, 1.0), (1, 0, 1.0)]
    assert end.num_paths == sum(step.num_samples for step in end.steps)
    assert pipeline.aggregator.rejections == []


async def test_a_fork_that_keeps_all_it_needs_ends_without_a_path() -> None:
    pipeline = Pipeline(Model("36"))
    fork = Fork(request_id=made.REQUEST_ID, kept=(kept(0, "35"),))
    end = await pipeline.answer(
        ReasoningRequested(question="How many?", request_id=made.REQUEST_ID, policy="default", fork=fork)
    )
    assert isinstance(end, AnswerReached)
    assert (end.answer, end.num_paths, end.confidence) == ("35", 0, 0.9)


async def test_a_policy_that_does_not_know_the_asks_of_kept_steps_is_refused() -> None:
    fork = Fork(request_id=made.REQUEST_ID, kept=(kept(0, SPLIT, "decompose"),))
    request = ReasoningRequested(question="How many?", request_id=made.REQUEST_ID, policy="default", fork=fork)
    with pytest.raises(Rejected, match=r"fork.kept\[0\].step.ask"):
        await Pipeline(Model("36")).answer(request)
