"""The plan of a request and the verdicts on its steps in; the next steps, and in the end its answer, out.

The group that holds the plan, as it was made or inside a carry, knows all earlier effects; only that one decides.

    a verdict frees steps that waited for it    their first samples + carry
    every step has its verdict                  AnswerReached
    a step without answer that others need      RequestFailed(no_answer), StepClosed for open steps
    deadline + grace                            RequestFailed(deadline), StepClosed for open steps
    closed, and every launched step has spoken  nothing: the group ends
    given up                                    RequestFailed, StepClosed + a closing carry for open steps; once a request
"""

from collections.abc import Sequence
from math import prod

import msgspec

from conclave.domain import planning
from conclave.domain.joining import Decision, Wait
from conclave.errors import Rejected
from conclave.runtime.dead_letters import Cause, Reason
from schemas.events import AnswerReached, Event, PlanCarried, PlanMade, RequestFailed, StepClosed, StepDecided
from schemas.ids import asked_at_ms
from schemas.values import Outcome, PathFailure, RequestFailure, StepAnswer, StopReason
from services.aggregator.settings import AggregatorSettings

Part = PlanMade | StepDecided | PlanCarried

_MAX_COUNT = 2**53  # what an event can hold: forged ballots must not make an answer that nobody can read


class Aggregator:
    """Joiner of `reasoning.steps`: a group is a request."""

    def __init__(self, settings: AggregatorSettings) -> None:
        self._grace_ms = round(settings.aggregator_grace_s * 1000)
        self._orphan_ms = round(settings.aggregator_orphan_s * 1000)

    def key(self, event: Event) -> str:
        """The request that the event belongs to."""
        part = _part(event)
        return part.plan.request_id if isinstance(part, PlanCarried) else part.request_id

    def join(self, events: Sequence[Event], now_ms: int) -> Decision | Wait:
        """The next steps, the end of the request, or patience.

        Raises: Rejected when the events contradict each other, or for verdicts on a request that nobody has planned.
        """
        parts = [_part(event) for event in events]
        state = _folded(parts)
        if state is None:
            return self._without_plan([part for part in parts if isinstance(part, StepDecided)], now_ms)
        deadline_ms = state.plan.deadline_ms
        if deadline_ms > now_ms + planning.MAX_DEADLINE_AHEAD_MS:
            raise Rejected("$.deadline_ms", "at most two days from now", str(deadline_ms))
        if state.is_closed:
            end_ms = deadline_ms + self._grace_ms + self._orphan_ms
            return Decision() if not _open_steps(state) or now_ms >= end_ms else Wait(end_ms)
        return self._advance(state, now_ms)

    def carry(self, events: Sequence[Event]) -> PlanCarried | StepDecided:
        """All events of the group in one. A lone verdict whose plan is not there yet stands for itself.

        Raises: Rejected for several verdicts without a plan: no event can hold them.
        """
        parts = [_part(event) for event in events]
        state = _folded(parts)
        if state is not None:
            return state
        verdicts = _first_of_each([part for part in parts if isinstance(part, StepDecided)])
        if len(verdicts) > 1:
            raise _orphans(verdicts)
        return verdicts[0]

    def give_up(self, events: Sequence[Event], cause: Cause, now_ms: int) -> Decision:
        """The failure of the request, once; nothing for verdicts on a request that nobody has planned."""
        parts = [event for event in events if isinstance(event, Part)]
        states = [_as_state(part) for part in parts if not isinstance(part, StepDecided)]
        if not states:
            return Decision()
        # They may differ in anything: a carry is our own, and among equals it must be the same one on a re-read.
        carries = [part for part in parts if isinstance(part, PlanCarried)]
        plan = min((state.plan for state in carries or states), key=msgspec.json.encode)
        launched = {index for state in states for index in state.launched_steps if index < len(plan.steps)}
        verdicts = _first_of_each([verdict for state in states for verdict in state.verdicts])
        fresh = _first_of_each([part for part in parts if isinstance(part, StepDecided)])
        known = {verdict.step_index: verdict for verdict in (*fresh, *verdicts) if verdict.step_index in launched}
        state = PlanCarried(
            plan=plan,
            verdicts=tuple(known[index] for index in sorted(known)),
            launched_steps=tuple(sorted(launched)),
            is_closed=any(state.is_closed for state in states),
        )
        failure = RequestFailure.INVALID if cause.reason is Reason.REJECTED else RequestFailure.NO_ANSWER
        ended = _failed(state, failure, cause.message, now_ms)
        is_possible = plan.deadline_ms <= now_ms + planning.MAX_DEADLINE_AHEAD_MS
        carry = ended.carry if is_possible else None
        if isinstance(carry, PlanCarried):
            carry = msgspec.structs.replace(carry, verdicts=tuple(_bare(verdict) for verdict in carry.verdicts))
        return Decision(() if state.is_closed else ended.outputs, carry)

    def _without_plan(self, verdicts: Sequence[StepDecided], now_ms: int) -> Wait:
        """Patience: the plan may be in a carry that is still under way."""
        oldest_ms = min(verdict.decided_ms for verdict in verdicts)
        if oldest_ms > now_ms + planning.MAX_DEADLINE_AHEAD_MS:
            raise Rejected("$.decided_ms", "a time that has been", str(oldest_ms))
        if now_ms >= oldest_ms + self._orphan_ms:
            raise _orphans(verdicts)
        return Wait(oldest_ms + self._orphan_ms)

    def _advance(self, state: PlanCarried, now_ms: int) -> Decision | Wait:
        plan = state.plan
        if any(verdict.answer is None and _is_needed(plan, verdict.step_index) for verdict in state.verdicts):
            return _failed(state, _why_no_answer(state), "no path gave an answer", now_ms)
        if len(state.verdicts) == len(plan.steps):
            return Decision((_answered(state, now_ms),))
        if now_ms >= plan.deadline_ms + self._grace_ms:
            message = f"{len(state.verdicts)} of {len(plan.steps)} steps were decided in time"
            return _failed(state, RequestFailure.DEADLINE, message, now_ms)
        answers = {verdict.step_index: verdict.answer for verdict in state.verdicts if verdict.answer is not None}
        released = planning.released_steps(plan, answers, state.launched_steps)
        if not released:
            return Wait(plan.deadline_ms + self._grace_ms)
        contexts = [planning.step_context(plan, index, answers) for index in released]
        samples = tuple(sample for context in contexts for sample in planning.first_wave(context))
        launched_steps = tuple(sorted({*state.launched_steps, *released}))
        return Decision(samples, msgspec.structs.replace(state, launched_steps=launched_steps))


def _part(event: Event) -> Part:
    if isinstance(event, Part):
        return event
    raise Rejected("ce_type", "PlanMade, StepDecided or PlanCarried", type(event).__name__)


def _folded(parts: Sequence[Part]) -> PlanCarried | None:
    """All parts in one, whatever their order; None when the plan is not among them.

    Raises: Rejected when they don't fit each other.
    """
    states = [_as_state(part) for part in parts if not isinstance(part, StepDecided)]
    if not states:
        return None
    # What a carry holds has been acted upon already, so it comes before a verdict that repeats it.
    carried = [verdict for state in states for verdict in state.verdicts]
    fresh = [part for part in parts if isinstance(part, StepDecided)]
    verdicts = {verdict.step_index: verdict for verdict in (*_first_of_each(fresh), *_first_of_each(carried))}
    folded = PlanCarried(
        plan=min((state.plan for state in states), key=msgspec.json.encode),
        verdicts=tuple(verdicts[index] for index in sorted(verdicts)),
        launched_steps=tuple(sorted({index for state in states for index in state.launched_steps})),
        is_closed=any(state.is_closed for state in states),
    )
    if any(state.plan != folded.plan for state in states):
        raise Rejected("$.plan", "one plan for a request", "several that differ")
    if any(index >= len(folded.plan.steps) for index in folded.launched_steps):
        expected = f"steps below {len(folded.plan.steps)}"
        raise Rejected("$.launched_steps", expected, str(folded.launched_steps))
    for verdict in folded.verdicts:
        if verdict.step_index not in folded.launched_steps:
            raise Rejected("$.step_index", f"one of {folded.launched_steps}", str(verdict.step_index))
    return folded


def _as_state(part: PlanMade | PlanCarried) -> PlanCarried:
    if isinstance(part, PlanCarried):
        return part
    return PlanCarried(plan=part, verdicts=(), launched_steps=planning.first_steps(part), is_closed=False)


def _first_of_each(verdicts: Sequence[StepDecided]) -> list[StepDecided]:
    """One verdict a step: the earliest, and among equals always the same one."""
    ordered = sorted(verdicts, key=lambda verdict: (verdict.step_index, verdict.decided_ms))
    firsts: dict[int, StepDecided] = {}
    for verdict in ordered:
        known = firsts.setdefault(verdict.step_index, verdict)
        if known is not verdict and known.decided_ms == verdict.decided_ms:
            firsts[verdict.step_index] = min(known, verdict, key=msgspec.json.encode)
    return list(firsts.values())


def _open_steps(state: PlanCarried) -> tuple[int, ...]:
    """The steps that were launched and have no verdict yet."""
    decided = {verdict.step_index for verdict in state.verdicts}
    return tuple(index for index in state.launched_steps if index not in decided)


def _is_needed(plan: PlanMade, step_index: int) -> bool:
    """True when the answer of this step is the request's, or another step builds on it."""
    return step_index == len(plan.steps) - 1 or any(step_index in step.depends_on for step in plan.steps)


def _answered(state: PlanCarried, now_ms: int) -> AnswerReached:
    plan, last = state.plan, state.verdicts[-1]
    assert last.answer is not None  # _advance has looked at the last step before
    num_paths, tokens_in, tokens_out = _cost(state)
    return AnswerReached(
        request_id=plan.request_id,
        answer=last.answer,
        outcome=last.outcome,
        # A chain holds when all its links do; steps are taken to err independently.
        confidence=prod(verdict.confidence for verdict in state.verdicts if verdict.answer is not None),
        margin=last.margin,
        route=plan.route,
        arm=plan.arm,
        policy=plan.policy.name,
        steps=tuple(_step_answer(verdict) for verdict in state.verdicts),
        tally=last.tally,
        num_paths=num_paths,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        elapsed_ms=_elapsed_ms(plan, now_ms),
    )


def _step_answer(verdict: StepDecided) -> StepAnswer:
    return StepAnswer(
        step_index=verdict.step_index,
        outcome=verdict.outcome,
        answer=verdict.answer,
        confidence=verdict.confidence,
        num_samples=len(verdict.ballots),
    )


def _failed(state: PlanCarried, failure: RequestFailure, message: str, now_ms: int) -> Decision:
    """The end without an answer. A closing carry waits for what was launched and has not spoken."""
    num_paths, tokens_in, tokens_out = _cost(state)
    failed = RequestFailed(
        request_id=state.plan.request_id,
        failure=failure,
        message=message[:4096],
        num_paths=num_paths,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        elapsed_ms=_elapsed_ms(state.plan, now_ms),
    )
    open_steps = _open_steps(state)
    if not open_steps:
        return Decision((failed,))
    closed = (StepClosed(request_id=state.plan.request_id, step_index=index) for index in open_steps)
    return Decision((failed, *closed), msgspec.structs.replace(state, is_closed=True))


def _bare(verdict: StepDecided) -> StepDecided:
    """That there was a verdict, without its votes: small, whatever was voted on."""
    return msgspec.structs.replace(verdict, answer=None, outcome=Outcome.NO_ANSWER, tally=(), ballots=())


def _why_no_answer(state: PlanCarried) -> RequestFailure:
    """Deadline when time kept a step from its answer, no_answer when its paths ended and gave none."""
    for verdict in state.verdicts:
        is_late = verdict.stop_reason is StopReason.DEADLINE or any(
            ballot.failure is PathFailure.DEADLINE for ballot in verdict.ballots
        )
        if verdict.answer is None and is_late:
            return RequestFailure.DEADLINE
    return RequestFailure.NO_ANSWER


def _cost(state: PlanCarried) -> tuple[int, int, int]:
    """Paths decoded, tokens in and tokens out, of all ballots that were counted."""
    ballots = [ballot for verdict in state.verdicts for ballot in verdict.ballots]
    num_paths = sum(ballot.failure is None for ballot in ballots)
    tokens_in, tokens_out = sum(ballot.tokens_in for ballot in ballots), sum(ballot.tokens_out for ballot in ballots)
    return num_paths, min(tokens_in, _MAX_COUNT), min(tokens_out, _MAX_COUNT)


def _elapsed_ms(plan: PlanMade, now_ms: int) -> float:
    return float(max(0, now_ms - asked_at_ms(plan.request_id)))


def _orphans(verdicts: Sequence[StepDecided]) -> Rejected:
    return Rejected("$.request_id", "the id of a request that has been planned", verdicts[0].request_id)
