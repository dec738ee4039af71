"""Answers many questions side by side by a policy: the strategies, stopping rules and votes that ship, over a batch engine.

1. each question's strategy opens its thought
2. every open step gets the samples that its stopping rule still needs, all in one batch
3. a step whose rule is satisfied, or that may have no more samples, is decided by the vote that its ask names
4. a thought without open steps is asked for its next move: more steps, or the end
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from conclave.domain import complexity, counting, thinking
from conclave.domain.strategies import STRATEGIES
from conclave.domain.thought import Conclude
from schemas.events import PlanMade, ThoughtCarried
from schemas.ids import new_request_id
from schemas.values import Ask, Ballot, Policy, Step, StopReason, Verdict
from training.decoding import BatchDecoder, Path


@dataclass(frozen=True, slots=True)
class Answered:
    """What a question came to: its answer, and what it cost: tokens that the model wrote, those that it read, paths, steps."""

    answer: str | None
    num_tokens: int
    tokens_in: int
    num_paths: int
    num_steps: int
    is_declined: bool = False  # it has no answer because its paths declined


@dataclass
class _Request:
    """A question under way: its thought, and the ballots of each open step in launch order."""

    thought: ThoughtCarried
    ballots: dict[int, list[Ballot]] = field(default_factory=dict)
    end: Conclude | None = None

    def open_steps(self) -> list[tuple[Step, Ask]]:
        """The steps to be decided, with how each is put."""
        if self.end is not None:
            return []
        return [
            (step, self.thought.plan.policy.asks[step.ask])
            for step in self.thought.steps
            if step.index in thinking.open_steps(self.thought)
        ]


def answered(decoder: BatchDecoder, policy: Policy, questions: Sequence[str]) -> list[Answered]:
    """What each question comes to, in their order."""
    requests = [_Request(_opened(policy, question)) for question in questions]  # 1
    while any(request.end is None for request in requests):
        _launch(decoder, requests)  # 2
        for request in requests:
            for step, ask in request.open_steps():
                _decide(request, step, ask)  # 3
            if request.end is None and not request.open_steps():
                _go_on(request)  # 4
    return [_answer(request) for request in requests]


def _opened(policy: Policy, question: str) -> ThoughtCarried:
    policy, _ = complexity.fitted(policy, question)
    plan = PlanMade(
        request_id=new_request_id(),
        question=question,
        arm=policy.name,
        propensity=1.0,
        policy=policy,
        steps=thinking.opening(question, policy),
        deadline_ms=0,
    )
    state = thinking.folded([plan])
    assert state is not None
    return state


def _launch(decoder: BatchDecoder, requests: Sequence[_Request]) -> None:
    """Adds to every open step as many ballots as its rule still needs."""
    wanted: dict[str, list[tuple[_Request, Step, Ask]]] = {}
    for request in requests:
        for step, ask in request.open_steps():
            missing = counting.deficit(request.ballots.setdefault(step.index, []), ask)
            wanted.setdefault(step.ask, []).extend([(request, step, ask)] * missing)
    for samples in wanted.values():
        _, _, ask = samples[0]
        for (request, step, _), (path,) in zip(
            samples, decoder.decode(ask, [step.fields for _, step, _ in samples]), strict=True
        ):
            ballots = request.ballots[step.index]
            ballots.append(ballot_of(path, len(ballots)))


def ballot_of(path: Path, sample_index: int) -> Ballot:
    """The say that a path has in a vote."""
    return Ballot(
        sample_index=sample_index,
        answer=path.answer,
        is_declined=path.is_declined,
        probability=path.probability,
        tokens_in=sum(turn.tokens_in for turn in path.turns),
        tokens_out=path.num_tokens,
        mean_logprob=path.mean_logprob,
    )


def _decide(request: _Request, step: Step, ask: Ask) -> None:
    """Decides a step if its rule is satisfied by some first ballots, or allows no more."""
    ballots = request.ballots[step.index]
    stop = counting.stop(ballots, ask)
    if stop is None and counting.deficit(ballots, ask):
        return
    decisive = ballots if stop is None else ballots[: stop.length]
    reason = StopReason.EXHAUSTED if stop is None else stop.reason
    counted = counting.count(decisive, ask, reason=reason)
    reason = StopReason.DECLINED if counted.is_declined else reason
    verdict = Verdict(
        step_index=step.index,
        outcome=counted.result.outcome,
        stop_reason=reason,
        answer=counted.result.answer,
        confidence=counted.confidence,
        margin=counted.result.margin,
        tally=counted.result.tally[:8],
        num_paths=len(ballots),
        tokens_in=sum(ballot.tokens_in for ballot in ballots),
        tokens_out=sum(ballot.tokens_out for ballot in ballots),
        decided_ms=0,
    )
    request.thought = replace(request.thought, verdicts=(*request.thought.verdicts, verdict))


def _go_on(request: _Request) -> None:
    move = thinking.next_move(request.thought, STRATEGIES[request.thought.plan.policy.strategy])
    if isinstance(move, Conclude):
        request.end = move
    else:
        request.thought = move


def _answer(request: _Request) -> Answered:
    verdicts = {verdict.step_index: verdict for verdict in request.thought.verdicts}
    step = request.end.step if request.end else None
    return Answered(
        answer=None if step is None else verdicts[step].answer,
        num_tokens=sum(verdict.tokens_out for verdict in verdicts.values()),
        tokens_in=sum(verdict.tokens_in for verdict in verdicts.values()),
        num_paths=sum(verdict.num_paths for verdict in verdicts.values()),
        num_steps=len(request.thought.steps),
        is_declined=step is None and any(each.stop_reason == StopReason.DECLINED for each in verdicts.values()),
    )
