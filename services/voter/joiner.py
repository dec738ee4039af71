"""The paths of a step in; its verdict, or its next wave of samples, out.

A vote counts ballots in launch order, over samples 0..k without a gap, so that paths which happen to be short have no
head start. The group that holds sample 0, as its path or inside a carry, is the one that knows all earlier effects;
only that one decides. This is what makes joining order-free and a verdict unique. After the deadline a group that has lost
it is given up, and decided on what is there, once nothing can bring it any more.

    a judge has not spoken yet      patience, until the deadline: then formulas that it has not joined are told apart
    rule satisfied on a prefix      StepDecided, and StepClosed + a closing carry if samples have not reported
    the schedule wants more         the next samples + carry, as far as they can be paid for
    all in, none more               StepDecided (exhausted, budget, deadline)
    deadline + grace                StepDecided on all that is there
    a rule that is not known here   patience: a newer voter may come; at deadline + grace, StepDecided without an answer
    closing carry, all reported     nothing: the group ends
    given up                        StepDecided without an answer, StepClosed + a closing carry as above
    sample 0 missing at the end     the same, on all that is there
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from conclave.domain import bounds, counting, planning
from conclave.domain.counting import Counted
from conclave.domain.equivalence.judged import Same
from conclave.domain.joining import Decision, Wait
from conclave.domain.verdict import verdict_on
from conclave.errors import Rejected, Unbegun
from conclave.runtime.dead_letters import Cause, Reason
from schemas.events import Event, PathDecoded, PathFailed, StepClosed, TallyCarried
from schemas.values import Ask, Ballot, PathFailure, StepContext, StopReason
from services.voter.settings import VoterSettings

Vote = PathDecoded | PathFailed | TallyCarried

# After these another sample would end the same way: the prompt is at fault, or someone has closed the step.
_FUTILE = frozenset(
    {PathFailure.PROMPT_TOO_LONG, PathFailure.BAD_PROMPT, PathFailure.BAD_REQUEST, PathFailure.CANCELLED}
)

_JUDGED_AGAIN_MS = 20  # a judge that has not said its word yet is asked again

# What makes contexts of one step differ when nobody forges them.
_OLDER_RELAY = "a service older than the others may have dropped a field: is the decomposer deployed last?"


class Voter:
    """Joiner of `reasoning.paths`: a group is a step."""

    def __init__(self, settings: VoterSettings, judge: Same = lambda one, other: False) -> None:
        """`judge` says whether two formulas are the same without waiting, for the equivalences that have one."""
        self._judge_of_formulas = judge
        self._grace_ms = round(settings.voter_grace_s * 1000)
        self._orphan_ms = round(settings.voter_orphan_s * 1000)

    def key(self, event: Event) -> str:
        """The step that the event belongs to."""
        return _vote(event).context.step_id

    def join(self, events: Sequence[Event], now_ms: int) -> Decision | Wait:
        """The verdict, the next wave, or patience. Raises: Rejected when the events contradict each other."""
        tally = self.carry(events)
        deadline_ms = tally.context.deadline_ms
        if deadline_ms > now_ms + planning.MAX_DEADLINE_AHEAD_MS:
            raise Rejected("$.context.deadline_ms", "at most two days from now", str(deadline_ms))
        end_ms = deadline_ms + max(self._orphan_ms, self._grace_ms)
        if tally.is_decided:
            is_over = len(tally.ballots) == tally.launched or now_ms >= end_ms
            return Decision() if is_over else Wait(end_ms)
        if not _has_begun(tally):
            return self._without_start(tally, now_ms)
        outcome = self._judge(tally, now_ms)
        if isinstance(outcome, Decision) and now_ms >= deadline_ms + self._grace_ms:
            # A step that had not begun may have had its verdict by now: its closing carry then lies further on.
            return replace(outcome, once_read=True)
        return outcome

    def carry(self, events: Sequence[Event]) -> TallyCarried:
        """All events of the group in one, whatever their order; a sample that is there twice counts once.

        Raises: Rejected when their contexts differ, as they come from different steps or one of them is forged.
        """
        votes = [_vote(event) for event in events]
        context = _agreed(votes)
        ballots: dict[int, Ballot] = {}
        for ballot in (ballot for vote in votes for ballot in _ballots(vote)):
            known = ballots.setdefault(ballot.sample_index, ballot)
            if known != ballot:
                ballots[ballot.sample_index] = min(known, ballot, key=_first_said)
        return TallyCarried(
            context=context,
            launched=max(vote.launched for vote in votes),
            ballots=tuple(ballots[index] for index in sorted(ballots)),
            is_decided=any(isinstance(vote, TallyCarried) and vote.is_decided for vote in votes),
        )

    def give_up(self, events: Sequence[Event], cause: Cause, now_ms: int) -> Decision:
        """The verdict, once a step, and a closing carry of bare ballots if samples have not reported.

        Only a group that has begun knows whether the step has had its verdict. Of one that has not, the samples count as
        failed; unless its beginning is lost for good: then the verdict is on all that is there.
        """
        votes = [event for event in events if isinstance(event, Vote)]
        if not votes:
            return Decision()
        # They may differ in anything: a carry is our own, and among equals it must be the same one on a re-read.
        context = min(votes, key=lambda vote: (not isinstance(vote, TallyCarried), msgspec.json.encode(vote))).context
        reported = {ballot.sample_index for vote in votes for ballot in _ballots(vote)}
        tally = TallyCarried(
            context=context,
            launched=max(vote.launched for vote in votes),
            ballots=tuple(Ballot(sample_index=index, failure=PathFailure.ENGINE) for index in sorted(reported)),
            is_decided=any(isinstance(vote, TallyCarried) and vote.is_decided for vote in votes),
        )
        is_possible = context.deadline_ms <= now_ms + planning.MAX_DEADLINE_AHEAD_MS
        verdict = _decided(tally, counting.uncounted(()), StopReason.EXHAUSTED, now_ms)
        closing = verdict.carry if is_possible else None
        if tally.is_decided:
            return Decision((), closing)
        if cause.reason is Reason.UNBEGUN:
            return Decision(self._headless(votes, now_ms).outputs, closing)
        if not _has_begun(tally) and is_possible:
            return Decision((), tally)
        return Decision(verdict.outputs, closing)

    def _headless(self, votes: Sequence[Vote], now_ms: int) -> Decision:
        """The verdict on all that is there."""
        tally = self.carry(votes)
        if counting.unknown_rule(tally.context.ask):
            return _uncounted(tally, now_ms)
        return _verdict(tally, tally.ballots, StopReason.DEADLINE, now_ms)

    def _without_start(self, tally: TallyCarried, now_ms: int) -> Wait:
        """Patience: the start may be in a carry that is still under way."""
        end_ms = tally.context.deadline_ms + self._grace_ms
        if now_ms < end_ms:
            return Wait(end_ms)
        got = f"samples {[ballot.sample_index for ballot in tally.ballots]} only"
        raise Unbegun("$.sample_index", f"sample 0 of step {tally.context.step_id} before its deadline", got)

    def _judge(self, tally: TallyCarried, now_ms: int) -> Decision | Wait:
        ask, deadline_ms = tally.context.ask, tally.context.deadline_ms
        late_ms = deadline_ms + self._grace_ms
        if counting.unknown_rule(ask):
            return _uncounted(tally, now_ms) if now_ms >= late_ms else Wait(late_ms)
        in_order, is_judged = counting.judged_ballots(counting.in_order(tally.ballots), ask, self._judge_of_formulas)
        if not is_judged and now_ms < deadline_ms:
            return Wait(min(now_ms + _JUDGED_AGAIN_MS, late_ms))
        tally = replace(tally, ballots=(*in_order, *tally.ballots[len(in_order) :]))
        stop = counting.stop(in_order, ask)
        if stop is not None:
            return _verdict(tally, in_order[: stop.length], stop.reason, now_ms)
        is_futile = any(ballot.failure in _FUTILE for ballot in in_order)
        num_more = 0 if is_futile or now_ms >= deadline_ms else counting.launch(tally.ballots, tally.launched, ask)
        if num_more:
            samples = planning.wave(tally.context, tally.launched, num_more)
            return Decision(samples, replace(tally, launched=tally.launched + num_more))
        if len(in_order) < tally.launched:
            if now_ms < late_ms:
                return Wait(late_ms)
            # What has not reported by now counts as what decoders report at a deadline: a failure, which has no vote.
            return _verdict(tally, tally.ballots, StopReason.DEADLINE, now_ms)
        is_short = not is_futile and counting.deficit(in_order, ask) > 0
        if is_short and now_ms >= deadline_ms:
            return _verdict(tally, in_order, StopReason.DEADLINE, now_ms)
        is_out = is_short and counting.is_out_of_budget(in_order, ask)
        return _verdict(tally, in_order, StopReason.BUDGET if is_out else StopReason.EXHAUSTED, now_ms)


def _has_begun(tally: TallyCarried) -> bool:
    return bool(tally.ballots) and tally.ballots[0].sample_index == 0


def _vote(event: Event) -> Vote:
    if isinstance(event, Vote):
        return event
    raise Rejected("ce_type", "PathDecoded, PathFailed or TallyCarried", type(event).__name__)


def _agreed(votes: Sequence[Vote]) -> StepContext:
    """The one context of all votes. Raises: Rejected, naming the first field in which two differ."""
    context = votes[0].context
    for vote in votes:
        if vote.context == context:
            continue
        for field in StepContext.__struct_fields__:
            mine, other = getattr(context, field), getattr(vote.context, field)
            if mine != other:
                expected = f"the same in all events of step {context.step_id} ({_OLDER_RELAY})"
                raise Rejected(f"$.context.{field}", expected, f"{mine} and {other}")
    return context


def _ballots(vote: Vote) -> Sequence[Ballot]:
    match vote:
        case TallyCarried():
            return [_within_bounds(ballot, vote.context.ask) for ballot in vote.ballots]
        case PathDecoded():
            cast = Ballot(
                sample_index=vote.sample_index,
                answer=vote.answer,
                probability=vote.probability,
                tokens_in=vote.tokens_in or 0,  # what is unknown adds nothing to a sum
                tokens_out=vote.tokens_out or 0,
                mean_logprob=vote.mean_logprob,
                answer_logprob=vote.answer_logprob,
                lowest_group_logprob=vote.lowest_group_logprob,
                tail_logprob=vote.tail_logprob,
                load=vote.load,
                is_declined=vote.is_declined and vote.answer is None,
            )
            return (_within_bounds(cast, vote.context.ask),)
        case PathFailed():
            return (
                Ballot(
                    sample_index=vote.sample_index,
                    failure=vote.failure,
                    tokens_in=vote.tokens_in,
                    tokens_out=vote.tokens_out,
                ),
            )


def _first_said(ballot: Ballot) -> tuple[bool, bytes]:
    """Of a ballot that is there twice, the one on which a judge has spoken counts: by it something may be decided."""
    return ballot.same_as is None, msgspec.json.encode(ballot)


def _within_bounds(ballot: Ballot, ask: Ask) -> Ballot:
    """The ballot with its answer as long as a vote of its ask has room for, so that any carry of the vote fits a record."""
    answer = bounds.cut_ballot(ballot.answer, ask) if ballot.answer else None
    return ballot if answer == ballot.answer else replace(ballot, answer=answer)


def _verdict(tally: TallyCarried, ballots: Sequence[Ballot], reason: StopReason, now_ms: int) -> Decision:
    counted = counting.count(ballots, tally.context.ask, reason=reason)
    return _decided(tally, counted, reason, now_ms)


def _uncounted(tally: TallyCarried, now_ms: int) -> Decision:
    return _decided(tally, counting.uncounted(tally.ballots), StopReason.DEADLINE, now_ms)


def _decided(tally: TallyCarried, counted: Counted, reason: StopReason, now_ms: int) -> Decision:
    decided = verdict_on(tally.context, counted, reason, launched=tally.launched, decided_ms=now_ms)
    if len(tally.ballots) == tally.launched:
        return Decision((decided,))
    closed = StepClosed(request_id=decided.request_id, step_index=decided.step_index)
    return Decision((decided, closed), replace(tally, is_decided=True))
