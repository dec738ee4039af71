"""Ballots, what they come to, and where a request goes on from what another one came to."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.values.base import (
    MAX_STEPS,
    Count,
    Label,
    LogProbability,
    Name,
    Probability,
    SampleIndex,
    ShortText,
    StepIndex,
    TimestampMs,
    Uuid7,
)
from schemas.values.endings import Outcome, PathFailure
from schemas.values.steps import Step


class Ballot(Struct, frozen=True, kw_only=True):
    """One path's say in a vote. `answer`, as the path wrote it, is None when it gave none; a failed sample has `failure`.

    A verdict adds `tally_row`, the row of its tally that the ballot counts for: None when it says nothing.
    """

    sample_index: SampleIndex
    answer: ShortText | None = None
    weight: Annotated[float, Meta(ge=0.0, description="0: it was not counted")] = 1.0
    probability: Probability | None = None  # that the answer is right, as the path states it
    tally_row: SampleIndex | None = None
    failure: PathFailure | None = None
    tokens_in: Count = 0
    tokens_out: Count = 0
    mean_logprob: LogProbability | None = None
    answer_logprob: LogProbability | None = None
    lowest_group_logprob: LogProbability | None = None
    tail_logprob: LogProbability | None = None
    load: Probability | None = None  # how full the engine was when the path ended
    is_declined: bool = (
        False  # the path says that this is no question for its model: it counts as that, and has no answer
    )
    same_as: Annotated[
        SampleIndex | None,
        Meta(description="the earlier sample whose formula a judge found to be the same, or its own: it is like none"),
    ] = None


class TallyRow(Struct, frozen=True, kw_only=True):
    """Votes for one answer, as the first of its paths in launch order wrote it.

    `weight` equals `votes` while every path weighs 1.
    """

    answer: ShortText
    votes: Count
    weight: Annotated[float, Meta(ge=0.0)]


class FieldVerdict(Struct, frozen=True, kw_only=True):
    """What the vote on one field of a structured answer came to. `tally` has values as JSON, the heaviest first."""

    name: Label
    outcome: Outcome  # no_answer: no value has the share of weight that counts as a consensus
    confidence: Probability
    agreement: Probability
    margin: Probability
    tally: Annotated[tuple[TallyRow, ...], Meta(max_length=8)] = ()


class Verdict(Struct, frozen=True, kw_only=True):
    """What a step came to, as a strategy sees it: a StepDecided without its ballots, and with the heaviest answers only."""

    step_index: StepIndex
    outcome: Outcome
    stop_reason: Name
    answer: ShortText | None
    confidence: Probability
    margin: Probability
    tally: Annotated[tuple[TallyRow, ...], Meta(max_length=8)]  # the heaviest first
    num_paths: Count
    tokens_in: Count
    tokens_out: Count
    decided_ms: TimestampMs
    fields: Annotated[
        tuple[FieldVerdict, ...], Meta(max_length=64)
    ] = ()  # of a structured answer, without their tallies


class StepAnswer(Struct, frozen=True, kw_only=True):
    """One step's part in a request's answer."""

    step_index: StepIndex
    mark: Label = ""
    outcome: Outcome
    answer: ShortText | None
    confidence: Probability
    num_samples: Count


class KeptStep(Struct, frozen=True, kw_only=True):
    """A step of another request with what it came to: part of a fork, which goes on from there."""

    step: Step
    outcome: Outcome
    answer: ShortText | None
    confidence: Probability
    margin: Probability
    tally: Annotated[tuple[TallyRow, ...], Meta(max_length=8)]  # the heaviest first


class Fork(Struct, frozen=True, kw_only=True):
    """Where a request goes on from: another one, of which so many first steps are kept as they were decided."""

    request_id: Uuid7
    kept: Annotated[tuple[KeptStep, ...], Meta(max_length=MAX_STEPS - 1)] = ()

    def __post_init__(self) -> None:
        for place, each in enumerate(self.kept):
            if each.step.index != place:
                raise ValueError(f"`index` must be {place}, got {each.step.index} - at `$.kept[{place}].step.index`")
