"""Hypothesis strategies for events: whatever the contracts allow."""

import hypothesis.strategies as st
import msgspec

from schemas import experiments as x
from schemas import values as v
from schemas.events import (
    AnswerReached,
    ApprovalGiven,
    ApprovalRequested,
    Event,
    ExperimentChanged,
    FeedbackGiven,
    PathDecoded,
    PathFailed,
    PlanMade,
    PoliciesRead,
    ReasoningRequested,
    RequestCancelled,
    RequestFailed,
    SampleRequested,
    StepClosed,
    StepDecided,
    TallyCarried,
    TextStored,
    ThoughtCarried,
    ToolRequested,
    WeightsPublished,
)
from schemas.ids import derived_request_id

_times = st.integers(1_600_000_000_000, 1_900_000_000_000)
request_ids = st.builds(derived_request_id, _times, st.text(max_size=5))
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
questions = texts.filter(lambda text: not v.is_blank(text))
answers = st.none() | texts
shares = st.floats(0, 1)
counts = st.integers(0, 10_000)
durations = st.floats(0, 1e6)
digests = st.from_regex("[0-9a-f]{64}", fullmatch=True)
logprobs = st.none() | st.floats(-100, 0)

prices = st.builds(v.Price, tokens_in=durations, tokens_out=durations)
allowances = st.builds(v.Allowance, max_tokens=st.none() | counts, max_dollars=st.none() | durations, price=prices)
params = st.dictionaries(names, st.floats(-1e9, 1e9), max_size=3)
asks = st.builds(
    v.Ask,
    form=names,
    program=names,
    max_turns=st.integers(1, 64),
    tools=st.lists(names, max_size=2).map(tuple),
    stopping=names,
    voting=names,
    equivalence=names,
    weighing=names,
    confidence=names,
    calibration=st.just(()) | st.lists(shares, min_size=2, max_size=11).map(tuple),
    vote_weights=st.just(()) | st.lists(shares, min_size=2, max_size=5).map(tuple),
    params=params,
    max_samples=st.integers(1, 256),
    temperature=st.floats(0, 5),
    top_p=st.floats(0.01, 1),
    max_tokens=st.integers(1, 131_072),
    allowance=st.none() | allowances,
)
policies = st.builds(
    v.Policy,
    name=names,
    version=st.integers(1, 1_000),
    digest=texts,
    prompt_set=names,
    strategy=names,
    params=params,
    asks=st.dictionaries(names, asks, min_size=1, max_size=2),
    budget=st.builds(
        v.Budget,
        max_steps=st.integers(1, 64),
        max_tokens=st.none() | counts,
        max_seconds=st.none() | st.floats(0.1, 86_400),
        max_dollars=st.none() | durations,
    ),
    prices=st.dictionaries(texts, prices, max_size=2),
    effort=st.none() | st.builds(v.Effort, estimator=names, least=st.integers(1, 4), most=st.integers(4, 9)),
)


def steps_from(first: int) -> st.SearchStrategy[v.Step]:
    """The step of that index, leaning on any before it."""
    return st.builds(
        v.Step,
        index=st.just(first),
        ask=names,
        fields=st.dictionaries(names, questions, max_size=3),
        mark=texts,
        depends_on=st.sets(st.integers(0, first - 1)).map(tuple) if first else st.just(()),
        why=texts,
    )


contexts = st.builds(
    v.StepContext,
    request_id=request_ids,
    step=st.integers(0, 63).flatmap(steps_from),
    ask=asks,
    prompt_set=names,
    policy=names,
    deadline_ms=_times,
    arm=names,
    priority=names,
    tenant=texts,
)
ballots = st.builds(
    v.Ballot,
    sample_index=st.integers(0, 15),
    answer=answers,
    weight=durations,
    probability=st.none() | shares,
    failure=st.none() | st.sampled_from(v.PathFailure),
    tokens_in=counts,
    tokens_out=counts,
    mean_logprob=logprobs,
)
unique_ballots = st.lists(ballots, max_size=8, unique_by=lambda ballot: ballot.sample_index).map(tuple)
tallies = st.lists(st.builds(v.TallyRow, answer=texts, votes=counts, weight=durations), max_size=4).map(tuple)
steps = st.integers(1, 4).flatmap(lambda number: st.tuples(*map(steps_from, range(number))))
_samples = {"context": contexts, "sample_index": st.integers(0, 15), "launched": st.integers(16, 256)}

plans = st.builds(
    PlanMade,
    request_id=request_ids,
    question=questions,
    arm=names,
    propensity=st.floats(0.01, 1),
    policy=policies,
    steps=steps,
    deadline_ms=_times,
    max_samples=st.none() | st.integers(1, 256),
    spent_ms=st.none() | _times,
    reasons=st.dictionaries(texts, texts, max_size=2),
    weights_version=st.none() | counts,
    assignment=st.none()
    | st.builds(x.Assignment, experiment=names, revision=counts, unit=texts, draw=st.integers(0, 2**53 - 1)),
)
metrics = st.builds(
    x.Metric,
    name=names,
    raters=st.lists(st.sampled_from(x.Rater), max_size=2).map(tuple),
    missing=st.none() | shares,
    limit=st.none() | st.floats(0.1, 1e6),
)


def experiments_of(arms: list[str]) -> st.SearchStrategy[x.Experiment]:
    """An experiment with arms of these names."""
    return st.builds(
        x.Experiment,
        name=names,
        arms=st.just({name: x.Arm(policy=name) for name in arms}),
        control=st.sampled_from(arms),
        mode=st.sampled_from(x.Mode),
        unit=texts.filter(bool),
        only_tags=st.dictionaries(texts, texts, max_size=2),
        goal=metrics,
        guardrails=st.lists(st.builds(x.Guardrail, metric=metrics, at_least=shares), max_size=2).map(tuple),
        holdout=st.floats(0, 0.9),
        floor=st.floats(0, 0.05),
        discount=st.floats(0.5, 1),
        salt=texts,
    )


experiments = st.lists(names.filter(lambda name: name != x.HOLDOUT), min_size=2, max_size=5, unique=True).flatmap(
    experiments_of
)
verdicts = st.builds(
    StepDecided,
    request_id=request_ids,
    step_index=st.integers(0, 63),
    stop_reason=names,
    answer=answers,
    confidence=shares,
    margin=shares,
    agreement=shares,
    entropy=st.floats(0, 8),
    tally=tallies,
    ballots=unique_ballots,
    launched=st.integers(0, 256),
    arm=names,
    policy=names,
    decided_ms=_times,
)


def carried(num_steps: int) -> st.SearchStrategy[v.Verdict]:
    """A verdict, as it is carried, on one of so many steps."""
    return st.builds(
        v.Verdict,
        step_index=st.integers(0, num_steps - 1),
        stop_reason=names,
        answer=answers,
        confidence=shares,
        margin=shares,
        tally=tallies,
        num_paths=counts,
        tokens_in=counts,
        tokens_out=counts,
        decided_ms=_times,
    )


turns = st.builds(
    v.Turn,
    form=names,
    text=texts,
    answer=answers,
    call=st.none() | st.builds(v.Call, tool=names, argument=texts),
    tool=st.none() | names,
    tokens_in=counts,
    tokens_out=counts,
)

calls = st.builds(v.Call, names, texts)
EVENTS: dict[type, st.SearchStrategy[Event]] = {
    ReasoningRequested: st.builds(
        ReasoningRequested,
        question=questions,
        request_id=st.none() | request_ids,
        idempotency_key=st.none() | texts.filter(bool),
        policy=st.none() | names,
        max_samples=st.none() | st.integers(1, 256),
        deadline_s=st.floats(0.1, 86_400),
        tags=st.dictionaries(texts, texts, max_size=3),
        fork=st.none()
        | st.builds(
            v.Fork,
            request_id=request_ids,
            kept=st.just(())
            | steps_from(0).map(
                lambda step: (
                    v.KeptStep(step=step, outcome=v.Outcome.TIE, answer="7", confidence=0.5, margin=0.0, tally=()),
                )
            ),
        ),
    ),
    PlanMade: plans,
    SampleRequested: st.builds(SampleRequested, **_samples),
    PathDecoded: st.builds(
        PathDecoded,
        **_samples,
        text=texts,
        answer=answers,
        tokens_in=counts,
        tokens_out=counts,
        mean_logprob=logprobs,
        min_logprob=logprobs,
        queued_ms=durations,
        first_token_ms=durations,
        total_ms=durations,
        model=texts,
        engine=texts,
        probability=st.none() | shares,
        turns=st.lists(turns, max_size=3).map(tuple),
        form=st.none() | names,
        long_text=st.none() | st.builds(v.LongText, digest=digests, num_chunks=st.integers(1, 64), num_chars=counts),
    ),
    TextStored: st.builds(
        TextStored, request_id=request_ids, digest=digests, chunk_index=st.integers(0, 63), text=questions
    ),
    PathFailed: st.builds(
        PathFailed, **_samples, message=texts, tokens_in=counts, tokens_out=counts, total_ms=durations
    ),
    TallyCarried: st.builds(
        TallyCarried, context=contexts, launched=st.integers(16, 256), ballots=unique_ballots, is_decided=st.booleans()
    ),
    RequestCancelled: st.builds(RequestCancelled, request_id=request_ids, until_ms=st.integers(0, 2**48 - 1)),
    ToolRequested: st.builds(ToolRequested, context=contexts, call=calls, is_approved=st.booleans()),
    ApprovalRequested: st.builds(ApprovalRequested, context=contexts, call=calls, until_ms=st.integers(0, 2**48 - 1)),
    ApprovalGiven: st.builds(
        ApprovalGiven,
        request_id=request_ids,
        step_index=st.integers(0, 63),
        is_approved=st.booleans(),
        given_by=texts,
        why=texts,
        until_ms=st.integers(0, 2**48 - 1),
    ),
    StepClosed: st.builds(StepClosed, request_id=request_ids, step_index=st.integers(0, 63)),
    StepDecided: verdicts,
    ThoughtCarried: plans.flatmap(
        lambda plan: st.builds(
            ThoughtCarried,
            plan=st.just(plan),
            grown=st.just(()) | st.tuples(steps_from(len(plan.steps)), steps_from(len(plan.steps) + 1)),
            verdicts=st.lists(carried(len(plan.steps)), max_size=3).map(tuple),
            is_closed=st.booleans(),
            is_cancelled=st.booleans(),
        )
    ),
    AnswerReached: st.builds(
        AnswerReached,
        request_id=request_ids,
        answer=texts,
        confidence=shares,
        margin=shares,
        strategy=names,
        arm=names,
        policy=names,
        answered_by=st.integers(0, 63),
        tally=tallies,
        num_paths=counts,
        tokens_in=counts,
        tokens_out=counts,
        elapsed_ms=durations,
        ended_by=names,
        steps=st.lists(
            st.builds(
                v.StepAnswer,
                step_index=st.integers(0, 63),
                mark=texts,
                answer=answers,
                confidence=shares,
                num_samples=counts,
            ),
            max_size=3,
        ).map(tuple),
    ),
    RequestFailed: st.builds(
        RequestFailed, request_id=request_ids, message=texts, num_paths=counts, elapsed_ms=durations
    ),
    FeedbackGiven: st.builds(
        FeedbackGiven,
        request_id=request_ids,
        reward=shares,
        right_answer=answers,
        comment=answers,
        source=texts,
        feedback_id=st.none() | texts.filter(bool),
        metric=names,
        rater=st.sampled_from(x.Rater),
        step_index=st.integers(0, 63),
        sample_index=st.none() | st.integers(0, 255),
        rating=st.none() | st.floats(-1e9, 1e9),
        supersedes=st.none() | texts.filter(bool),
    ),
    ExperimentChanged: experiments.flatmap(
        lambda each: st.builds(
            ExperimentChanged,
            experiment=st.just(each.name),
            revision=st.integers(1, 1000),
            change=st.sampled_from([x.Change.START, x.Change.STOP, x.Change.KILL]),
            definition=st.just(each),
            by=texts,
            why=texts,
            changed_ms=_times,
        )
    ),
    WeightsPublished: st.builds(
        WeightsPublished,
        experiment=names,
        version=counts,
        allocation=names.map(lambda name: {name: 1.0}),
        ramp_since=counts,
        why=texts,
        segments=st.dictionaries(
            names, st.builds(x.SegmentWeights, allocation=st.just({"a": 1.0}), since=counts), max_size=3
        ),
    ),
    PoliciesRead: st.builds(
        PoliciesRead,
        instance=texts.filter(bool),
        read_ms=_times,
        policies=st.lists(
            st.builds(v.PolicyFile, policy=names, digest=texts, file=texts, modified_ms=_times), max_size=3
        ).map(tuple),
    ),
}

any_event = st.one_of(*EVENTS.values())


def document(event: Event) -> object:
    """The event as plain JSON data, to be mutated."""
    return msgspec.json.decode(msgspec.json.encode(event))
