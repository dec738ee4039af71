"""Hypothesis strategies for events: whatever the contracts allow."""

import hypothesis.strategies as st
import msgspec

from schemas import values as v
from schemas.events import (
    AnswerReached,
    Event,
    FeedbackGiven,
    PathDecoded,
    PathFailed,
    PlanCarried,
    PlanMade,
    ReasoningRequested,
    RequestFailed,
    SampleRequested,
    StepClosed,
    StepDecided,
    TallyCarried,
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
logprobs = st.none() | st.floats(-100, 0)

policies = st.builds(
    v.Policy,
    name=names,
    prompt_set=names,
    form=names,
    stopping=st.sampled_from(v.StoppingRule),
    stop_confidence=shares,
    window=st.integers(1, 256),
    lead=st.integers(1, 256),
    max_samples=st.integers(1, 256),
    temperature=st.floats(0, 5),
    top_p=st.floats(0.01, 1),
    max_tokens=st.integers(1, 131_072),
)
contexts = st.builds(
    v.StepContext,
    request_id=request_ids,
    step_index=st.integers(0, 31),
    policy=policies,
    fields=st.dictionaries(names, questions, max_size=3),
    deadline_ms=_times,
    arm=names,
)
ballots = st.builds(
    v.Ballot,
    sample_index=st.integers(0, 15),
    answer=answers,
    weight=durations,
    failure=st.none() | st.sampled_from(v.PathFailure),
    tokens_in=counts,
    tokens_out=counts,
    mean_logprob=logprobs,
)
unique_ballots = st.lists(ballots, max_size=8, unique_by=lambda ballot: ballot.sample_index).map(tuple)
tallies = st.lists(st.builds(v.TallyRow, answer=texts, votes=counts, weight=durations), max_size=4).map(tuple)
steps = st.integers(1, 4).flatmap(
    lambda number: st.tuples(
        *(
            st.builds(
                v.Step,
                index=st.just(i),
                question=questions,
                depends_on=st.sets(st.integers(0, i - 1)).map(tuple) if i else st.just(()),
            )
            for i in range(number)
        )
    )
)
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
)
verdicts = st.builds(
    StepDecided,
    request_id=request_ids,
    step_index=st.integers(0, 31),
    answer=answers,
    confidence=shares,
    margin=shares,
    agreement=shares,
    entropy=st.floats(0, 8),
    tally=tallies,
    ballots=unique_ballots,
    launched=st.integers(1, 256),
    arm=names,
    policy=names,
    decided_ms=_times,
)

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
    ),
    PathFailed: st.builds(
        PathFailed, **_samples, message=texts, tokens_in=counts, tokens_out=counts, total_ms=durations
    ),
    TallyCarried: st.builds(
        TallyCarried, context=contexts, launched=st.integers(16, 256), ballots=unique_ballots, is_decided=st.booleans()
    ),
    StepClosed: st.builds(StepClosed, request_id=request_ids, step_index=st.integers(0, 31)),
    StepDecided: verdicts,
    PlanCarried: plans.flatmap(
        lambda plan: st.builds(
            PlanCarried,
            plan=st.just(plan),
            verdicts=st.lists(verdicts, max_size=3).map(tuple),
            launched_steps=st.just((0,)),
            is_closed=st.booleans(),
        )
    ),
    AnswerReached: st.builds(
        AnswerReached,
        request_id=request_ids,
        answer=texts,
        confidence=shares,
        margin=shares,
        arm=names,
        policy=names,
        tally=tallies,
        num_paths=counts,
        tokens_in=counts,
        tokens_out=counts,
        elapsed_ms=durations,
        steps=st.lists(
            st.builds(
                v.StepAnswer, step_index=st.integers(0, 31), answer=answers, confidence=shares, num_samples=counts
            ),
            max_size=3,
        ).map(tuple),
    ),
    RequestFailed: st.builds(
        RequestFailed, request_id=request_ids, message=texts, num_paths=counts, elapsed_ms=durations
    ),
    FeedbackGiven: st.builds(
        FeedbackGiven, request_id=request_ids, reward=shares, right_answer=answers, comment=answers, source=texts
    ),
    WeightsPublished: st.builds(
        WeightsPublished, experiment=names, version=counts, allocation=names.map(lambda name: {name: 1.0})
    ),
}

any_event = st.one_of(*EVENTS.values())


def document(event: Event) -> object:
    """The event as plain JSON data, to be mutated."""
    return msgspec.json.decode(msgspec.json.encode(event))
