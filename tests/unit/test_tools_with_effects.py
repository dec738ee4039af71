"""Tools with an effect: each call is made once whatever crashes, and none that needs a yes without it."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from conclave.domain import external, planning
from conclave.domain.external import CallEnd, Entry, Known
from conclave.domain.joining import Decision, Wait
from conclave.errors import LostDependency
from conclave.runtime.dead_letters import Cause, Reason
from conclave.runtime.handler import Arrival
from conclave.runtime.work import Handles
from conclave.testing import events as made
from conclave.testing.lane import SimulatedLane, run
from conclave.testing.services import outputs_of
from schemas.events import (
    AnswerReached,
    ApprovalGiven,
    ApprovalRequested,
    Event,
    PlanMade,
    RequestFailed,
    SampleRequested,
    StepDecided,
    ToolRequested,
)
from schemas.values import Ask, Outcome, Policy, RequestFailure, Step
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.tools.handler import ToolCaller

SEND = Ask(form="none", program="external", tools=("mail.send",))
SEND_IF_ALLOWED = replace(SEND, params={"approval_s": 300.0})
AGGREGATOR = Aggregator(AggregatorSettings(aggregator_grace_s=5.0, aggregator_orphan_s=7200.0))
CALL = external.released(made.context(SEND))
ARRIVAL = Arrival("event", "key", made.NOW_MS, made.NOW_MS, "reasoning.tools/0/0")


@dataclass
class Mail:
    """A tool that sends letters, and notes by which key."""

    needs_approval: bool = False
    knows_keys: bool = False
    sent: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    async def call(self, argument: str, key: str) -> str:
        self.calls.append(key)
        if not self.knows_keys or key not in self.sent:
            self.sent.append(key)
        return f"error: {argument}" if argument == "refuse" else f"sent {argument}"


@dataclass
class Book:
    """A ledger in memory, which outlives those who write in it; it `keeps` what came of calls, or only that they were made."""

    entries: dict[str, Entry] = field(default_factory=dict)
    keeps: bool = True

    async def begin(self, key: str, event: ToolRequested) -> Entry:
        if key in self.entries:
            return self.entries[key]
        self.entries[key] = Entry(Known.BEGUN)
        return Entry(Known.NEW)

    async def end(self, key: str, observed: str, *, is_failed: bool) -> None:
        if self.entries[key].known is not Known.DONE:
            self.entries[key] = Entry(Known.DONE, observed if self.keeps else None, is_failed)


class Crash(BaseException):
    """The process ends here."""


T = TypeVar("T")


async def crashing(moments: list[str], name: str, doing: Coroutine[Any, Any, T]) -> T:
    """What is done, unless the process ends before it; or after, when it was done all the same."""
    if f"before {name}" in moments:
        moments.remove(f"before {name}")
        doing.close()
        raise Crash
    done = await doing
    if f"after {name}" in moments:
        moments.remove(f"after {name}")
        raise Crash
    return done


@dataclass
class CrashingBook:
    """A ledger whose writer ends at some moments."""

    of: Book
    moments: list[str]

    async def begin(self, key: str, event: ToolRequested) -> Entry:
        return await crashing(self.moments, "begin", self.of.begin(key, event))

    async def end(self, key: str, observed: str, *, is_failed: bool) -> None:
        await crashing(self.moments, "end", self.of.end(key, observed, is_failed=is_failed))


@dataclass
class CrashingMail:
    """A tool whose caller ends at some moments."""

    of: Mail
    moments: list[str]
    needs_approval: bool = False

    @property
    def knows_keys(self) -> bool:
        return self.of.knows_keys

    async def call(self, argument: str, key: str) -> str:
        return await crashing(self.moments, "call", self.of.call(argument, key))


def verdict_of(events: Sequence[Event]) -> StepDecided:
    (verdict,) = events
    assert isinstance(verdict, StepDecided)
    return verdict


def handled(event: Event, caller: ToolCaller, now_ms: int = made.NOW_MS) -> Sequence[Event]:
    return asyncio.run(caller.handle(event, Arrival("event", "key", now_ms, now_ms, "reasoning.tools/0/0")))


moments = st.lists(
    st.sampled_from(
        [f"{when} {what}" for when in ("before", "after") for what in ("begin", "call", "end")] + ["commit"]
    ),
    max_size=5,
    unique=True,
)


@given(moments=moments, knows_keys=st.booleans(), keeps=st.booleans())
@settings(max_examples=200, deadline=None)
def test_whatever_crashes_a_call_has_one_effect_at_most_and_its_step_one_verdict(
    moments: list[str], knows_keys: bool, keeps: bool
) -> None:
    book, mail, verdicts = Book(keeps=keeps), Mail(knows_keys=knows_keys), []
    is_read_again = {"after end", "commit"} & set(moments)
    had_crash_at_the_call = {"before call", "after begin", "after call", "before end"} & set(moments)
    for _ in range(len(moments) + 1):  # each time by a new process
        caller = ToolCaller({"mail.send": CrashingMail(mail, moments)}, CrashingBook(book, moments))
        try:
            verdict = verdict_of(handled(CALL, caller))
        except Crash:
            continue
        verdicts.append(verdict)
        if "commit" in moments:  # what it made is not published
            moments.remove("commit")
            continue
        break
    assert len(mail.sent) <= 1
    assert len({(each.outcome, each.stop_reason) for each in verdicts}) == 1, "read again, it says the same"
    if keeps or knows_keys:
        assert len({each.answer for each in verdicts}) == 1
    if (knows_keys or not had_crash_at_the_call) and (keeps or knows_keys or not is_read_again):
        assert (len(mail.sent), verdicts[-1].answer) == (1, "sent 2+2?")
    if not keeps:
        assert all(entry.observed is None for entry in book.entries.values() if entry.known is Known.DONE)
    if verdicts[-1].stop_reason == CallEnd.OBSERVED:
        assert len(mail.sent) == 1


def test_on_the_runtime_a_call_that_is_requested_twice_is_made_once() -> None:
    mail = Mail()
    found = outputs_of("tools", Handles(ToolCaller({"mail.send": mail}, Book())), [CALL, CALL])
    assert {verdict_of([each]).answer for each in found} == {"sent 2+2?"}
    assert mail.calls == [str(CALL.step_id)]


def test_a_ledger_that_is_lost_after_the_call_was_made_does_not_have_it_made_again() -> None:
    class Flaky(Book):
        num_losses = 1

        async def end(self, key: str, observed: str, *, is_failed: bool) -> None:
            if self.num_losses:
                self.num_losses -= 1
                raise LostDependency("postgres", "away")
            await super().end(key, observed, is_failed=is_failed)

    mail, book = Mail(), Flaky()
    caller = ToolCaller({"mail.send": mail}, book)
    with pytest.raises(LostDependency):
        handled(CALL, caller)
    assert verdict_of(handled(CALL, caller)).answer == "sent 2+2?"
    assert len(mail.calls) == 1


@pytest.mark.parametrize(
    ("tool", "call", "now_ms", "why"),
    [
        (None, CALL, made.NOW_MS, "there is no tool mail.send here"),
        (Mail(needs_approval=True), CALL, made.NOW_MS, "needs somebody's yes"),
        (Mail(), CALL, made.DEADLINE_MS, "the deadline of its request had passed"),
        (Mail(), external.released(made.context(SEND, fields={"argument": "refuse"})), made.NOW_MS, "error: refuse"),
    ],
)
def test_a_call_that_is_not_made_or_fails_has_a_verdict_that_says_why(
    tool: Mail | None, call: ToolRequested, now_ms: int, why: str
) -> None:
    caller = ToolCaller({} if tool is None else {"mail.send": tool}, Book())
    verdict = verdict_of(handled(call, caller, now_ms))
    assert (verdict.outcome, verdict.answer, verdict.stop_reason) == (Outcome.NO_ANSWER, None, CallEnd.FAILED)
    assert why in verdict.tally[0].answer


def test_a_call_that_is_given_up_fails_and_one_that_waits_is_nobody_s_work() -> None:
    caller = ToolCaller({"mail.send": Mail()}, Book())
    assert verdict_of(caller.give_up(CALL, ARRIVAL, Cause(Reason.HANDLER, "a bug"))).stop_reason == CallEnd.FAILED
    waiting = external.begun(made.context(SEND_IF_ALLOWED))
    assert isinstance(waiting, ApprovalRequested)
    assert handled(waiting, caller) == []
    assert caller.give_up(waiting, ARRIVAL, Cause(Reason.HANDLER, "a bug")) == []


# -- a yes, in the thought of its request -----------------------------------------------------------------------------


def acting(act: Ask) -> Policy:
    asks = {"argument": Ask(form="argument", stopping="fixed", max_samples=1), "act": act, "whole": Ask(form="whole")}
    return Policy(name="acting", prompt_set="any", strategy="act", asks=asks)


def given_by(name: str, *, yes: bool, step_index: int = 1) -> ApprovalGiven:
    return ApprovalGiven(
        request_id=made.REQUEST_ID, step_index=step_index, is_approved=yes, given_by=name, until_ms=made.DEADLINE_MS
    )


class Others:
    """Whoever owes a verdict: voters, the caller of tools, people who say yes or no."""

    def __init__(self, *words: ApprovalGiven) -> None:
        self.words, self.owed, self.heard = list(words), [], []  # type: ignore[var-annotated]

    def hear(self, output: Event) -> None:
        self.heard.append(output)
        match output:
            case SampleRequested() if output.sample_index == 0:
                answer = "a letter" if output.context.step.ask == "argument" else "done"
                self.owed.append(made.verdict(output.context.step_index, answer))
            case ToolRequested():
                self.owed.append(external.decided(output.context, CallEnd.OBSERVED, "sent", made.NOW_MS))
            case StepDecided():
                self.owed.append(output)
            case ApprovalRequested():
                self.owed += self.words
            case _:
                pass

    def report(self, lane: SimulatedLane, choice: int) -> None:
        if self.owed:
            lane.log.append(self.owed.pop(choice % len(self.owed)))

    def of(self, kind: type[Event]) -> list[Event]:
        return [each for each in self.heard if type(each) is kind]


def lane_of(others: Others, plan: PlanMade, now_ms: int = made.NOW_MS) -> SimulatedLane:
    for step in plan.steps:
        for begun in planning.begun(planning.step_context(plan, step)):
            others.hear(begun)
    return SimulatedLane(AGGREGATOR, others.hear, now_ms, log=[plan])


def finish(lane: SimulatedLane, others: Others) -> None:
    lane.drain()
    while others.owed:
        others.report(lane, 0)
        lane.drain()


def end_of(others: Others) -> AnswerReached | RequestFailed:
    (end,) = [each for each in others.heard if isinstance(each, AnswerReached | RequestFailed)]
    return end


def told_last(others: Others) -> str:
    """What the last question was told of the call."""
    whole = [each for each in others.of(SampleRequested) if isinstance(each, SampleRequested)]
    return [each.context.step.fields.get("earlier", "") for each in whole if each.context.step.ask == "whole"][-1]


def test_a_step_that_needs_no_yes_calls_its_tool_and_the_next_is_told_what_came_of_it() -> None:
    others = Others()
    lane = lane_of(others, made.opened(acting(SEND)))
    finish(lane, others)
    (call,) = others.of(ToolRequested)
    assert isinstance(call, ToolRequested)
    assert (call.call.tool, call.call.argument, call.is_approved) == ("mail.send", "a letter", False)
    assert (told_last(others), others.of(ApprovalRequested)) == ("a letter -> sent", [])
    end = end_of(others)
    assert isinstance(end, AnswerReached)
    assert end.answer == "done"


@pytest.mark.parametrize("yes", [True, False])
def test_a_call_that_needs_a_yes_is_made_with_it_and_not_without(yes: bool) -> None:
    others = Others(given_by("anna", yes=yes))
    finish(lane_of(others, made.opened(acting(SEND_IF_ALLOWED))), others)
    assert [each.is_approved for each in others.of(ToolRequested) if isinstance(each, ToolRequested)] == [True] * yes
    assert told_last(others) == ("a letter -> sent" if yes else "a letter -> (denied: anna said no)")
    assert isinstance(end_of(others), AnswerReached)


def test_a_call_to_which_nobody_says_yes_in_time_is_not_made_and_the_thought_goes_on() -> None:
    others = Others()
    lane = lane_of(others, made.opened(acting(SEND_IF_ALLOWED)))
    finish(lane, others)
    lane.now_ms = made.NOW_MS + 299_000
    lane.tick()
    lane.drain()
    assert others.of(StepDecided) == []
    lane.now_ms = made.NOW_MS + 300_000
    lane.tick()
    finish(lane, others)
    assert others.of(ToolRequested) == []
    assert told_last(others) == "a letter -> (unapproved: nobody said yes in time)"
    lane.log.append(given_by("anna", yes=True))
    finish(lane, others)
    assert others.of(ToolRequested) == []


def test_of_a_yes_and_a_no_that_are_read_together_the_no_counts() -> None:
    plan = made.opened(Policy(name="send", prompt_set="any", strategy="vote", asks={"whole": SEND_IF_ALLOWED}))
    words = [given_by("anna", yes=True, step_index=0), given_by("bob", yes=False, step_index=0)]
    for events in ([plan, *words], [*reversed(words), plan]):
        decision = AGGREGATOR.join(events, made.NOW_MS)
        assert isinstance(decision, Decision)
        assert verdict_of(decision.outputs).stop_reason == CallEnd.DENIED


def test_a_request_whose_only_step_was_denied_has_no_answer() -> None:
    plan = made.opened(Policy(name="send", prompt_set="any", strategy="vote", asks={"whole": SEND_IF_ALLOWED}))
    others = Others(given_by("anna", yes=False, step_index=0))
    finish(lane_of(others, plan), others)
    end = end_of(others)
    assert isinstance(end, RequestFailed)
    assert end.failure is RequestFailure.NO_ANSWER


MOVES = ["report", "report", "read", "read", "flush", "crash", "carry", "tick"]


@given(
    moves=st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 31)), max_size=40),
    words=st.lists(st.booleans(), min_size=1, max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_whatever_the_order_and_whatever_crashes_a_call_is_released_once_and_only_with_a_yes(
    moves: list[tuple[str, int]], words: list[bool]
) -> None:
    others = Others(*(given_by(f"person {at}", yes=yes) for at, yes in enumerate(words)))
    lane = lane_of(others, made.opened(acting(SEND_IF_ALLOWED)))
    run(lane, moves, lambda choice: others.report(lane, choice))
    finish(lane, others)
    calls, refusals = others.of(ToolRequested), others.of(StepDecided)
    assert len(calls) + len(refusals) == 1
    assert not calls or any(words)
    assert isinstance(end_of(others), AnswerReached)


def test_a_word_without_a_request_is_forgotten_in_time() -> None:
    lone: list[Event] = [given_by("anna", yes=True)]
    assert AGGREGATOR.carry(lone) == lone[0]
    assert AGGREGATOR.join(lone, made.NOW_MS) == Wait(made.DEADLINE_MS)
    assert AGGREGATOR.join(lone, made.DEADLINE_MS) == Decision()


def test_a_step_is_the_call_of_its_argument_or_of_its_question() -> None:
    step = Step(index=0, fields={"question": "q", "argument": "a"})
    assert external.call_of(made.context(SEND, step=step)).argument == "a"
    assert external.call_of(made.context(SEND)).argument == "2+2?"
