"""Events as the recorder hands them to the store."""

import time

from msgspec.structs import replace

from conclave.domain.recorded import RecordedEvent
from conclave.testing import events as made
from schemas import flow
from schemas.events import Event, PathDecoded, ReasoningRequested
from schemas.values import Ballot, TallyRow

POLICY = made.policy()
PATHS = "reasoning.paths"


def recorded(event: Event, offset: int = 0, topic: str = PATHS) -> RecordedEvent:
    """An event as it lay in the log, with an id that its offset makes."""
    key = flow.subject_of(event)
    return RecordedEvent(event, f"id-{offset}", key, topic, 0, offset, int(time.time() * 1000), None)


def path_of(request: str, sample_index: int, answer: str | None, text: str = "so it is") -> PathDecoded:
    """A path of a request's first step."""
    path = made.decoded(made.context(request_id=request, deadline_ms=0), sample_index, 16, answer)
    return replace(path, text=text)


def trace_of(request: str, answers: str) -> list[Event]:
    """A request's events: one step, a path for each letter of `answers`, the last letter winning."""
    ballots = tuple(Ballot(sample_index=i, answer=answer) for i, answer in enumerate(answers))
    tally = (TallyRow(answer=answers[-1], votes=answers.count(answers[-1]), weight=1.0),)
    now_ms = int(time.time() * 1000)
    plan = replace(made.plan(of=POLICY), request_id=request, deadline_ms=now_ms)
    verdict = made.verdict(
        answer=answers[-1], request_id=request, tally=tally, ballots=ballots, launched=len(answers), decided_ms=now_ms
    )
    answer = made.answer(answers[-1], request_id=request, tally=tally, num_paths=len(answers))
    asked = ReasoningRequested(question="q\u00e9?", request_id=request, tags={"team": "a"})
    return [asked, plan, *(path_of(request, i, each) for i, each in enumerate(answers)), verdict, answer]


def direct_of(request: str, answer: str, final: str | None = None) -> list[Event]:
    """A request of the policy escalate: its direct answer and, where there is a `final` one, what was thought over."""
    plan = replace(made.opened(made.policy("escalate")), request_id=request, deadline_ms=int(time.time() * 1000))
    asked = ReasoningRequested(question=f"{answer}?", request_id=request)
    direct = made.verdict(answer=answer, request_id=request, num_votes=1, confidence=0.9)
    if final is None:
        return [asked, plan, direct, made.answer(answer, request_id=request, tokens_out=7)]
    over = made.decoded(made.context(request_id=request, index=1, deadline_ms=0), 0, 4, final)
    over = replace(over, context=replace(over.context, step=replace(over.context.step, ask="whole")))
    verdict = made.verdict(1, answer=final, request_id=request)
    return [asked, plan, direct, over, verdict, made.answer(final, request_id=request, answered_by=1, tokens_out=30)]
