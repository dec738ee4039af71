"""The plan of a request and the verdicts on its steps in; the next steps, and in the end its answer, out.

The group that holds the plan, as it was made or inside a carry, knows all earlier effects; only that one decides. The
strategy is asked at standstill, when no step is open; the steps that it adds exist from then on, and are launched.

    a step is open, and it is in time           patience, until deadline + grace
    the strategy grows the thought              the first samples of its new steps, or the calls that they are + carry
    somebody says yes or no to a call, or too late   the call, or the verdict that there is none + carry
    beyond its budget or its bytes, or late     the strategy is asked again, and must end
    the strategy concludes                      AnswerReached or RequestFailed, StepClosed for open steps + closing carry
    a strategy or rule that is not known here   patience: a newer aggregator may come
    cancelled                                   RequestFailed, StepClosed for open steps + closing carry
    cancelled, and no plan                      patience until the cancellation is forgotten: the plan may yet come
    closed, and every step has spoken           nothing: the group ends
    given up                                    RequestFailed, StepClosed for open steps + closing carry; once a request
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from conclave.domain import counting, external, planning, thinking
from conclave.domain.external import CallEnd
from conclave.domain.joining import Decision, Wait
from conclave.domain.thinking import End, Part, open_steps
from conclave.errors import Rejected, Unbegun
from conclave.runtime.dead_letters import Cause, Reason
from schemas.events import (
    AnswerReached,
    ApprovalGiven,
    Event,
    PlanMade,
    RequestCancelled,
    RequestFailed,
    StepClosed,
    StepDecided,
    ThoughtCarried,
)
from schemas.ids import asked_at_ms
from schemas.values import EndReason, Outcome, RequestFailure, StepAnswer, StepContext, StopReason, Verdict
from services.aggregator.settings import AggregatorSettings

_MAX_COUNT = 2**53  # what an event can hold: forged figures must not make an answer that nobody can read


class Aggregator:
    """Joiner of `reasoning.steps`: a group is a request."""

    def __init__(self, settings: AggregatorSettings) -> None:
        self._grace_ms = round(settings.aggregator_grace_s * 1000)
        self._orphan_ms = round(settings.aggregator_orphan_s * 1000)

    def key(self, event: Event) -> str:
        """The request that the event belongs to."""
        return _part(event).request_id

    def join(self, events: Sequence[Event], now_ms: int) -> Decision | Wait:
        """The next steps, the end of the request, or patience.

        Raises: Rejected when the events contradict each other, or for verdicts on a request that nobody has planned.
        """
        parts = [_part(event) for event in events]
        state = thinking.folded(parts)
        if state is None:
            return self._without_plan(parts, now_ms)
        deadline_ms = state.plan.deadline_ms
        if deadline_ms > now_ms + planning.MAX_DEADLINE_AHEAD_MS:
            raise Rejected("$.deadline_ms", "at most two days from now", str(deadline_ms))
        if state.is_closed:
            end_ms = deadline_ms + self._grace_ms + self._orphan_ms
            return Decision() if not open_steps(state) or now_ms >= end_ms else Wait(end_ms)
        if state.is_cancelled:
            return _ended(state, _failed(state, RequestFailure.CANCELLED, "it was cancelled", now_ms))
        return self._released(state, parts, now_ms) or self._think(state, now_ms)

    def carry(self, events: Sequence[Event]) -> ThoughtCarried | StepDecided | RequestCancelled | ApprovalGiven:
        """All events of the group in one. A lone verdict whose plan is not there yet stands for itself, and so do a
        cancellation and an approval; of several the verdict is kept, as a request may end without these and not without it.

        Raises: Rejected for several verdicts without a plan: no event can hold them.
        """
        parts = [_part(event) for event in events]
        state = thinking.folded(parts)
        if state is not None:
            return state
        verdicts = [part for part in parts if isinstance(part, StepDecided)]
        if len({verdict.step_index for verdict in verdicts}) > 1:
            raise _orphans(verdicts)
        if not verdicts:
            return max(_forgettable(parts), key=lambda part: (isinstance(part, RequestCancelled), part.until_ms))
        return min(verdicts, key=thinking.precedence)

    def give_up(self, events: Sequence[Event], cause: Cause, now_ms: int) -> Decision:
        """The failure of the request, once; nothing for verdicts on a request that nobody has planned."""
        state = thinking.salvaged([event for event in events if isinstance(event, Part)])
        if state is None:
            return Decision()
        failure = RequestFailure.INVALID if cause.reason is Reason.REJECTED else RequestFailure.NO_ANSWER
        ended = _ended(state, _failed(state, failure, cause.message, now_ms))
        is_possible = state.plan.deadline_ms <= now_ms + planning.MAX_DEADLINE_AHEAD_MS
        return Decision(() if state.is_closed else ended.outputs, ended.carry if is_possible else None)

    def _without_plan(self, parts: Sequence[Part], now_ms: int) -> Decision | Wait:
        """Patience: the plan may be in a carry that is still under way, or yet to be made."""
        verdicts = [part for part in parts if isinstance(part, StepDecided)]
        if not verdicts:
            until_ms = max(part.until_ms for part in _forgettable(parts))
            until_ms = min(until_ms, now_ms + planning.MAX_DEADLINE_AHEAD_MS)
            return Decision() if now_ms >= until_ms else Wait(until_ms)
        oldest_ms = min(verdict.decided_ms for verdict in verdicts)
        if oldest_ms > now_ms + planning.MAX_DEADLINE_AHEAD_MS:
            raise Rejected("$.decided_ms", "a time that has been", str(oldest_ms))
        if now_ms >= oldest_ms + self._orphan_ms:
            raise _orphans(verdicts)
        return Wait(oldest_ms + self._orphan_ms)

    def _released(self, state: ThoughtCarried, parts: Sequence[Part], now_ms: int) -> Decision | None:
        """What becomes of calls that wait for a yes, now that it was said, refused, or is too late; None while nothing does."""
        answers = [part for part in parts if isinstance(part, ApprovalGiven)]
        outputs: list[Event] = []
        released = set(state.released)
        for context in _waiting(state):
            given = min(
                (each for each in answers if each.step_index == context.step_index), key=_noes_first, default=None
            )
            until_ms = external.approval_until_ms(context.ask, state.request_id, state.plan.deadline_ms)
            if now_ms >= until_ms:
                outputs.append(external.decided(context, CallEnd.UNAPPROVED, "nobody said yes in time", now_ms))
            elif given is None:
                continue
            elif given.is_approved:
                outputs.append(external.released(context))
            else:
                said = f"{given.given_by} said no{f': {given.why}' if given.why else ''}"
                outputs.append(external.decided(context, CallEnd.DENIED, said, now_ms))
            released.add(context.step_index)
        return Decision(tuple(outputs), replace(state, released=tuple(sorted(released)))) if outputs else None

    def _think(self, state: ThoughtCarried, now_ms: int) -> Decision | Wait:
        late_ms = state.plan.ends_ms + self._grace_ms
        strategy = thinking.strategy_of(state)
        is_known = strategy is not None and not any(map(counting.unknown_rule, state.plan.policy.asks.values()))
        if now_ms < late_ms and (open_steps(state) or not is_known):
            expiries = (
                external.approval_until_ms(each.ask, state.request_id, state.plan.deadline_ms)
                for each in _waiting(state)
            )
            return Wait(min((late_ms, *expiries)))
        if strategy is None:
            return _ended(state, _unanswered(state, End(None), now_ms))
        # At standstill a deadline needs no grace: what would be asked now could not be answered in time.
        is_late, is_spent = not is_known or now_ms >= state.plan.deadline_ms, now_ms >= state.plan.ends_ms
        move = thinking.next_move(state, strategy, is_late=is_late, is_spent=is_spent)
        if isinstance(move, End):
            is_answered = move.step is not None
            return _ended(state, _answered(state, move, now_ms) if is_answered else _unanswered(state, move, now_ms))
        return Decision(_launched(move, first=len(state.steps)), move)


def _part(event: Event) -> Part:
    if isinstance(event, Part):
        return event
    raise Rejected("ce_type", "an event of a request's thought", type(event).__name__)


def _launched(state: ThoughtCarried, *, first: int) -> tuple[Event, ...]:
    """What the steps from `first` on begin with: samples, or the calls that they are."""
    contexts = planning.step_contexts(state.plan, state.steps[first:], state.verdicts)
    return tuple(begin for context in contexts for begin in planning.begun(context))


def _waiting(state: ThoughtCarried) -> list[StepContext]:
    """The open steps whose call waits for somebody's yes."""
    steps = [state.steps[index] for index in open_steps(state) if index not in state.released]
    asks = state.plan.policy.asks
    return [
        planning.step_context(state.plan, step)
        for step in steps
        if step.ask in asks and external.needs_approval(asks[step.ask])
    ]


def _noes_first(given: ApprovalGiven) -> tuple[bool, bytes]:
    """Of answers that are read together a no counts, and always the same one."""
    return given.is_approved, msgspec.json.encode(given)


def _forgettable(parts: Sequence[Part]) -> list[RequestCancelled | ApprovalGiven]:
    """What is forgotten after a while where there is no plan for it."""
    return [part for part in parts if isinstance(part, RequestCancelled | ApprovalGiven)]


def _ended(state: ThoughtCarried, end: AnswerReached | RequestFailed) -> Decision:
    """The request's end. A closing carry waits for what was asked and has not spoken."""
    still_open = open_steps(state)
    if not still_open:
        return Decision((end,))
    closures = (StepClosed(request_id=state.request_id, step_index=index) for index in still_open)
    return Decision((end, *closures), thinking.closed(state))


def _answered(state: ThoughtCarried, end: End, now_ms: int) -> AnswerReached:
    plan, verdict = state.plan, next(each for each in state.verdicts if each.step_index == end.step)
    assert verdict.answer is not None  # thinking.next_move concludes on an answered step or on none
    num_paths, tokens_in, tokens_out = _cost(state)
    return AnswerReached(
        request_id=plan.request_id,
        answer=verdict.answer,
        outcome=verdict.outcome,
        confidence=end.confidence,
        margin=verdict.margin,
        strategy=plan.policy.strategy,
        arm=plan.arm,
        policy=plan.policy.name,
        answered_by=verdict.step_index,
        steps=tuple(_step_answer(state, each) for each in state.verdicts),
        tally=verdict.tally,
        num_paths=num_paths,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        elapsed_ms=_elapsed_ms(plan, now_ms),
        ended_by=end.reason.value,
        fields=verdict.fields,
        recalled_from=plan.recalled_from,
    )


def _step_answer(state: ThoughtCarried, verdict: Verdict) -> StepAnswer:
    return StepAnswer(
        step_index=verdict.step_index,
        mark=state.steps[verdict.step_index].mark,
        outcome=verdict.outcome,
        answer=verdict.answer,
        confidence=verdict.confidence,
        num_samples=verdict.num_paths,
    )


def _unanswered(state: ThoughtCarried, end: End, now_ms: int) -> RequestFailed:
    """The end without an answer: deadline when time kept a step from its own, no_answer when its paths ended without one,
    declined it, or the budget was used up before any did."""
    num_open = len(open_steps(state))
    if end.reason is EndReason.BUDGET:
        message = f"the budget of policy {state.plan.policy.name} was used up before the request had an answer"
        return replace(_failed(state, RequestFailure.NO_ANSWER, message, now_ms), ended_by=end.reason.value)
    is_late = num_open > 0 or now_ms >= state.plan.deadline_ms
    is_late |= any(each.answer is None and each.stop_reason == StopReason.DEADLINE for each in state.verdicts)
    failure = RequestFailure.DEADLINE if is_late else RequestFailure.NO_ANSWER
    decided = f"{len(state.verdicts)} of {len(state.steps)} steps were decided in time"
    message = decided if num_open else "no step came to an answer that the request could have"
    if failure is RequestFailure.NO_ANSWER and any(each.stop_reason == StopReason.DECLINED for each in state.verdicts):
        message = f"its model declined it{f': {state.plan.purpose}' if state.plan.purpose else ''}"
    fields = next((each.fields for each in reversed(state.verdicts) if each.fields), ())
    contested = [each.name for each in fields if each.outcome is not Outcome.MAJORITY]
    if contested:
        message += f"; there was no consensus on {', '.join(contested)}"
    failed = replace(_failed(state, failure, message, now_ms), fields=fields)
    return replace(failed, ended_by=EndReason.DEADLINE.value) if failure is RequestFailure.DEADLINE else failed


def _failed(state: ThoughtCarried, failure: RequestFailure, message: str, now_ms: int) -> RequestFailed:
    num_paths, tokens_in, tokens_out = _cost(state)
    return RequestFailed(
        request_id=state.request_id,
        failure=failure,
        message=message[:4096],
        num_paths=num_paths,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        elapsed_ms=_elapsed_ms(state.plan, now_ms),
    )


def _cost(state: ThoughtCarried) -> tuple[int, int, int]:
    """Paths decoded, tokens in and tokens out, of all that was counted."""
    num_paths = sum(each.num_paths for each in state.verdicts)
    tokens_in, tokens_out = (
        sum(each.tokens_in for each in state.verdicts),
        sum(each.tokens_out for each in state.verdicts),
    )
    return min(num_paths, _MAX_COUNT), min(tokens_in, _MAX_COUNT), min(tokens_out, _MAX_COUNT)


def _elapsed_ms(plan: PlanMade, now_ms: int) -> float:
    return float(max(0, now_ms - asked_at_ms(plan.request_id)))


def _orphans(verdicts: Sequence[StepDecided]) -> Unbegun:
    return Unbegun("$.request_id", "the id of a request that has been planned", verdicts[0].request_id)
