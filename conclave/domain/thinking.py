"""A request's thought as the aggregator carries it: folded from events in any order, asked for its next move, and ended."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from conclave.domain import bounds, budget
from conclave.domain.strategies import STRATEGIES
from conclave.domain.thought import Conclude, Grow, Strategy, Thought
from conclave.errors import Rejected
from schemas.events import ApprovalGiven, PlanMade, RequestCancelled, StepDecided, ThoughtCarried
from schemas.values import (
    RECALLED,
    EndReason,
    KeptStep,
    Outcome,
    PathFailure,
    Policy,
    Step,
    StopReason,
    TallyRow,
    Verdict,
)

Part = PlanMade | StepDecided | ThoughtCarried | RequestCancelled | ApprovalGiven

_MAX_COUNT = 2**53  # what an event can hold: forged ballots must not make a sum that nobody can read


def opening(question: str, policy: Policy, kept: Sequence[KeptStep] = ()) -> tuple[Step, ...]:
    """The steps that a policy's strategy asks first, after those that a fork keeps: these first, and alone if it has enough.

    Raises: Rejected when it asks none within its budget, or knows no ask by which a kept one was put.
    """
    steps = tuple(each.step for each in kept)
    foreign = next((step for step in steps if step.ask not in policy.asks), None)
    if foreign is not None:
        asks = ", ".join(policy.asks)
        raise Rejected(f"$.fork.kept[{foreign.index}].step.ask", f"an ask of policy {policy.name}: {asks}", foreign.ask)
    if bounds.size(tuple(kept)) > bounds.MAX_THOUGHT_BYTES // 2:
        raise Rejected("$.fork.kept", f"steps of {bounds.MAX_THOUGHT_BYTES // 2:,} bytes together", str(len(kept)))
    verdicts = {each.step.index: _kept_verdict(each) for each in kept}
    move = STRATEGIES[policy.strategy].think(Thought(question, policy.params, steps, verdicts, False, policy.asks))
    if isinstance(move, Grow) and _is_sound(move.steps, len(steps), policy):
        return (*steps, *move.steps)
    if steps:
        return steps
    raise Rejected("$.question", f"one that strategy {policy.strategy} can open with", question[:100])


def recalled(plan: PlanMade, kept: Sequence[KeptStep], now_ms: int) -> list[StepDecided]:
    """The verdicts of a fork's kept steps, as they were: nothing was decoded for them, and they cost nothing."""
    return [
        StepDecided(
            request_id=plan.request_id,
            step_index=each.step.index,
            outcome=each.outcome,
            stop_reason=RECALLED,
            answer=each.answer,
            confidence=each.confidence,
            margin=each.margin,
            agreement=_agreement(each.tally),
            entropy=0.0,
            tally=each.tally,
            ballots=(),
            launched=0,
            arm=plan.arm,
            policy=plan.policy.name,
            decided_ms=now_ms,
        )
        for each in kept
    ]


def folded(parts: Sequence[Part]) -> ThoughtCarried | None:
    """All parts in one, whatever their order; None when the plan is not among them.

    Raises: Rejected when they don't fit each other.
    """
    states = [_as_state(part) for part in parts if isinstance(part, PlanMade | ThoughtCarried)]
    if not states:
        return None
    state = _latest(states)
    for each in states:
        if each.plan != state.plan or each.grown != state.grown[: len(each.grown)]:
            raise Rejected("$.plan", "one plan for a request, and steps added to it", "several that differ")
    verdicts = _verdicts(states, parts)
    if verdicts and max(verdicts) >= len(state.steps):
        raise Rejected("$.step_index", f"one of the {len(state.steps)} steps that were asked", str(max(verdicts)))
    released = tuple(sorted({index for each in states for index in each.released}))
    state = _with_verdicts(state, verdicts, states)
    return replace(state, is_cancelled=_is_cancelled(states, parts), released=released)


def salvaged(parts: Sequence[Part]) -> ThoughtCarried | None:
    """What is left of parts that don't fit each other, always the same in whatever order; None without any plan.

    A carry is the aggregator's own, so it comes before a plan.
    """
    states = [_as_state(part) for part in parts if isinstance(part, PlanMade | ThoughtCarried)]
    if not states:
        return None
    own = [part for part in parts if isinstance(part, ThoughtCarried)]
    state = _latest(own or states)
    known = {index: verdict for index, verdict in _verdicts(states, parts).items() if index < len(state.steps)}
    return _with_verdicts(state, known, states)


def verdict_of(decided: StepDecided) -> Verdict:
    """A verdict as it is carried: without ballots, its words within bounds."""
    ballots = decided.ballots
    is_declined = decided.stop_reason == StopReason.DECLINED
    is_late = decided.answer is None and any(ballot.failure is PathFailure.DEADLINE for ballot in ballots)
    verdict = Verdict(
        step_index=decided.step_index,
        outcome=decided.outcome,
        stop_reason=StopReason.DEADLINE if is_late and not is_declined else decided.stop_reason,
        answer=None if decided.answer is None else bounds.cut(decided.answer, bounds.MAX_ANSWER_BYTES),
        confidence=decided.confidence,
        margin=decided.margin,
        tally=tuple(_brief(row) for row in decided.tally[: bounds.MAX_TALLY_ROWS]),
        num_paths=sum(ballot.failure is None for ballot in ballots),
        tokens_in=min(sum(ballot.tokens_in for ballot in ballots), _MAX_COUNT),
        tokens_out=min(sum(ballot.tokens_out for ballot in ballots), _MAX_COUNT),
        decided_ms=decided.decided_ms,
        fields=tuple(replace(each, tally=()) for each in decided.fields),
    )
    return verdict if bounds.size(verdict) <= bounds.MAX_VERDICT_BYTES else replace(verdict, fields=())


def precedence(verdict: Verdict | StepDecided) -> tuple[int, bytes]:
    """What of several verdicts on a step comes first: the earliest, and among equals always the same one."""
    return verdict.decided_ms, msgspec.json.encode(verdict)


def open_steps(state: ThoughtCarried) -> tuple[int, ...]:
    """The steps that were asked and have no verdict yet."""
    decided = {verdict.step_index for verdict in state.verdicts}
    return tuple(step.index for step in state.steps if step.index not in decided)


def strategy_of(state: ThoughtCarried) -> Strategy | None:
    """The strategy that a plan names; None when this code has none of that name.

    What was recalled has been thought about already: its one step is all that there is to say, as with a vote.
    """
    if state.plan.recalled_from is not None:
        return STRATEGIES["vote"]
    return STRATEGIES.get(state.plan.policy.strategy)


@dataclass(frozen=True, slots=True)
class End(Conclude):
    """A request's end, and why it came when it did."""

    reason: EndReason = EndReason.DECIDED


def next_move(
    state: ThoughtCarried, strategy: Strategy, *, is_late: bool = False, is_spent: bool = False
) -> ThoughtCarried | End:
    """The thought with the steps that its strategy asks next, or its end.

    What would go beyond the policy's budget, or could not be carried, is asked again with `must_end`. `is_late`: the deadline
    has passed; `is_spent`: the seconds of the budget are used up.
    """
    if not is_late and not is_spent:
        move = strategy.think(_thought(state, must_end=False))
        if isinstance(move, Conclude):
            return _sound_end(state, move, EndReason.DECIDED)
        if _is_sound(move.steps, len(state.steps), state.plan.policy):
            grown = replace(state, grown=(*state.grown, *move.steps))
            reserve = len(open_steps(grown)) * bounds.MAX_VERDICT_BYTES
            left = budget.left(state.plan.policy, state.verdicts, own=state.plan.max_tokens)
            is_affordable = budget.affords(state.plan.policy, left, move.steps)
            if is_affordable and bounds.size(grown) + reserve <= bounds.MAX_THOUGHT_BYTES:
                return grown
    reason = EndReason.DEADLINE if is_late else EndReason.BUDGET
    end = strategy.think(_thought(state, must_end=True))
    return _sound_end(state, end if isinstance(end, Conclude) else Conclude(None), reason)


def closed(state: ThoughtCarried) -> ThoughtCarried:
    """What is remembered of a request that has ended: which of its steps have spoken, and none of their words."""
    bare = (replace(each, answer=None, outcome=Outcome.NO_ANSWER, tally=()) for each in state.verdicts)
    return replace(state, verdicts=tuple(bare), is_closed=True)


def _kept_verdict(kept: KeptStep) -> Verdict:
    return Verdict(
        step_index=kept.step.index,
        outcome=kept.outcome,
        stop_reason=RECALLED,
        answer=kept.answer,
        confidence=kept.confidence,
        margin=kept.margin,
        tally=kept.tally,
        num_paths=0,
        tokens_in=0,
        tokens_out=0,
        decided_ms=0,
    )


def _agreement(tally: Sequence[TallyRow]) -> float:
    total = sum(row.weight for row in tally)
    return min(1.0, tally[0].weight / total) if tally and total > 0.0 else 0.0


def _thought(state: ThoughtCarried, *, must_end: bool) -> Thought:
    verdicts: Mapping[int, Verdict] = {verdict.step_index: verdict for verdict in state.verdicts}
    policy = state.plan.policy
    return Thought(state.plan.question, policy.params, state.steps, verdicts, must_end, policy.asks)


def _is_sound(steps: Sequence[Step], num_asked: int, policy: Policy) -> bool:
    """True for steps that may be asked: at least one, numbered on, leaning on asked ones, by known asks, within the budget."""
    return 0 < len(steps) <= policy.budget.max_steps - num_asked and all(
        step.index == num_asked + place
        and all(index < num_asked for index in step.depends_on)
        and step.ask in policy.asks
        and bounds.size(step) <= bounds.MAX_STEP_BYTES
        for place, step in enumerate(steps)
    )


def _sound_end(state: ThoughtCarried, end: Conclude, reason: EndReason) -> End:
    """The end as it may be told: on a step that has an answer, with a confidence within 0 and 1.

    A step whose vote ended for want of budget ends the request for want of budget.
    """
    answered = {verdict.step_index: verdict for verdict in state.verdicts if verdict.answer is not None}
    cut = {verdict.step_index for verdict in state.verdicts if verdict.stop_reason == StopReason.BUDGET}
    if reason is EndReason.DECIDED and (end.step in cut or (end.step not in answered and cut)):
        reason = EndReason.BUDGET
    if end.step not in answered:
        return End(None, reason=reason)
    return End(end.step, min(max(end.confidence, 0.0), 1.0), reason)


def _as_state(part: PlanMade | ThoughtCarried) -> ThoughtCarried:
    if isinstance(part, ThoughtCarried):
        return part
    return ThoughtCarried(plan=part, grown=(), verdicts=(), is_closed=False)


def _latest(states: Sequence[ThoughtCarried]) -> ThoughtCarried:
    """The state with the most steps, always the same one of several."""
    return max(states, key=lambda each: (len(each.grown), msgspec.json.encode(each)))


def _verdicts(states: Sequence[ThoughtCarried], parts: Sequence[Part]) -> dict[int, Verdict]:
    """One verdict a step. What a carry holds has been acted upon already, so it comes before one that repeats it."""
    carried = (verdict for each in states for verdict in each.verdicts)
    fresh = (verdict_of(part) for part in parts if isinstance(part, StepDecided))
    return {each.step_index: each for each in (*_first_of_each(fresh), *_first_of_each(carried))}


def _with_verdicts(
    state: ThoughtCarried, verdicts: Mapping[int, Verdict], states: Sequence[ThoughtCarried]
) -> ThoughtCarried:
    in_order = tuple(verdicts[index] for index in sorted(verdicts))
    return replace(state, verdicts=in_order, is_closed=any(each.is_closed for each in states))


def _is_cancelled(states: Sequence[ThoughtCarried], parts: Sequence[Part]) -> bool:
    return any(each.is_cancelled for each in states) or any(isinstance(part, RequestCancelled) for part in parts)


def _first_of_each(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """One verdict a step, whatever the order."""
    firsts: dict[int, Verdict] = {}
    for verdict in verdicts:
        known = firsts.setdefault(verdict.step_index, verdict)
        firsts[verdict.step_index] = min(known, verdict, key=precedence)
    return list(firsts.values())


def _brief(row: TallyRow) -> TallyRow:
    return replace(row, answer=bounds.cut(row.answer, bounds.MAX_TALLY_ANSWER_BYTES))
