"""Every event, a struct each. The topic of each, and who writes and reads it, stand in `schemas.flow`.

Two kinds: *producer-facing* events (ReasoningRequested, FeedbackGiven) come from anyone, so an unknown field is an error
there, most likely a typing mistake; all others come from Conclave's services, which ignore fields they do not know, so
that a newer service may add one.
"""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.ids import StepId, step_id
from schemas.values import (
    MAX_SAMPLES,
    MAX_STEPS,
    Ballot,
    Count,
    DurationMs,
    FinishReason,
    IdempotencyKey,
    Label,
    LogProbability,
    Name,
    Outcome,
    PathFailure,
    Policy,
    Probability,
    Question,
    RequestFailure,
    Route,
    SampleCount,
    SampleIndex,
    ShortText,
    Step,
    StepAnswer,
    StepContext,
    StepIndex,
    StopReason,
    TallyRow,
    Text,
    TimestampMs,
    Uuid7,
    is_blank,
)


class ReasoningRequested(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question to reason about. Only `question` is required.

    `request_id` makes publishing idempotent: the same id published twice is answered once, and the record's key should be
    the request id. For who has no UUIDv7, `idempotency_key` does the same with any text; in a CloudEvent without either,
    `source` and `id` do. A request without any of them gets an id that derives from where it lies in the log.
    """

    question: Question
    request_id: Uuid7 | None = None
    idempotency_key: Annotated[
        IdempotencyKey | None, Meta(description="recognises a request without request_id that is published twice")
    ] = None
    policy: Annotated[Name | None, Meta(description="name of a reasoning policy; default: the service's choice")] = None
    max_samples: Annotated[SampleCount | None, Meta(description="paths to decode per step at most")] = None
    deadline_s: Annotated[float, Meta(gt=0.0, le=86_400.0, description="seconds until the answer is worthless")] = 600.0
    tags: Annotated[dict[Label, Label], Meta(max_length=16, description="stored with the request, for analysts")] = {}

    def __post_init__(self) -> None:
        if is_blank(self.question):
            raise ValueError("`question` must hold more than white space - at `$.question`")


class PlanMade(Struct, frozen=True, kw_only=True):
    """How a request will be reasoned about: its route, its policy, and its steps as a directed acyclic graph."""

    request_id: Uuid7
    question: Question
    route: Route
    arm: Name
    propensity: Annotated[float, Meta(gt=0.0, le=1.0)]  # probability with which this arm was picked
    policy: Policy
    steps: Annotated[tuple[Step, ...], Meta(min_length=1, max_length=MAX_STEPS)]
    deadline_ms: TimestampMs

    def __post_init__(self) -> None:
        # A step may depend only on steps before it: that excludes cycles, self-references and unknown steps at once.
        for position, step in enumerate(self.steps):
            if step.index != position:
                raise ValueError(f"`index` must be {position}, got {step.index} - at `$.steps[{position}].index`")
            unknown = [index for index in step.depends_on if index >= position]
            if unknown:
                raise ValueError(
                    f"a step depends on earlier steps only, got {unknown} - at `$.steps[{position}].depends_on`"
                )


class SampleRequested(Struct, frozen=True, kw_only=True):
    """One path to decode. `launched` counts the step's samples up to and including this one's wave."""

    context: StepContext
    sample_index: SampleIndex
    launched: SampleCount

    def __post_init__(self) -> None:
        _check_launched(self.sample_index, self.launched)


class PathDecoded(Struct, frozen=True, kw_only=True):
    """A decoded path: what the model said, the answer found in it, and what it cost."""

    context: StepContext
    sample_index: SampleIndex
    launched: SampleCount
    text: Text
    answer: ShortText | None
    finish_reason: FinishReason
    tokens_in: Count
    tokens_out: Count
    mean_logprob: LogProbability | None  # of the generated tokens; None when the engine reports none
    min_logprob: LogProbability | None
    queued_ms: DurationMs  # from the decoder's admission to the engine's start
    first_token_ms: DurationMs  # from the decoder's admission to the first token
    total_ms: DurationMs
    model: Label
    engine: Label

    def __post_init__(self) -> None:
        _check_launched(self.sample_index, self.launched)


class PathFailed(Struct, frozen=True, kw_only=True):
    """The other way for a sample to end: it failed or was cancelled."""

    context: StepContext
    sample_index: SampleIndex
    launched: SampleCount
    failure: PathFailure
    message: ShortText
    tokens_in: Count = 0
    tokens_out: Count = 0  # generated before the end came
    total_ms: DurationMs = 0.0

    def __post_init__(self) -> None:
        _check_launched(self.sample_index, self.launched)


class TallyCarried(Struct, frozen=True, kw_only=True):
    """The voter's carry: all that a step's vote has seen so far, addressed to itself.

    `ballots` holds one ballot for each sample that has ended, failed ones too. Once `is_decided`, it only waits for the
    samples that have not reported yet.
    """

    context: StepContext
    launched: SampleCount
    ballots: Annotated[tuple[Ballot, ...], Meta(max_length=MAX_SAMPLES)]
    is_decided: bool

    def __post_init__(self) -> None:
        indexes = {ballot.sample_index for ballot in self.ballots}
        if len(indexes) != len(self.ballots):
            raise ValueError("a sample has several ballots - at `$.ballots`")
        if indexes and max(indexes) >= self.launched:
            raise ValueError(f"a ballot's sample was never launched (`launched` is {self.launched}) - at `$.ballots`")


class StepClosed(Struct, frozen=True, kw_only=True):
    """A step needs no more samples: every decoder cancels those it still runs."""

    request_id: Uuid7
    step_index: StepIndex

    @property
    def step_id(self) -> StepId:
        """The id of the closed step."""
        return step_id(self.request_id, self.step_index)


class StepDecided(Struct, frozen=True, kw_only=True):
    """The verdict on a step: the answer that won, how clearly, and every ballot that was counted."""

    request_id: Uuid7
    step_index: StepIndex
    outcome: Outcome
    stop_reason: StopReason
    answer: ShortText | None  # None only with Outcome.NO_ANSWER
    confidence: Probability  # that the leader would stay the leader, as the stopping rule sees it
    margin: Probability  # share of the winner's weight minus the runner-up's
    agreement: Probability  # share of the winner's weight
    entropy: Annotated[float, Meta(ge=0.0)]  # of the answers' shares, in bits
    tally: Annotated[tuple[TallyRow, ...], Meta(max_length=MAX_SAMPLES)]  # heaviest first
    ballots: Annotated[tuple[Ballot, ...], Meta(max_length=MAX_SAMPLES)]  # in launch order, those counted
    launched: SampleCount
    arm: Name
    policy: Name
    decided_ms: TimestampMs


class PlanCarried(Struct, frozen=True, kw_only=True):
    """The aggregator's carry: the plan, and the verdicts on its steps so far. Once `is_closed`, it only absorbs late ones."""

    plan: PlanMade
    verdicts: Annotated[tuple[StepDecided, ...], Meta(max_length=MAX_STEPS)]
    launched_steps: Annotated[tuple[StepIndex, ...], Meta(max_length=MAX_STEPS)]
    is_closed: bool


class AnswerReached(Struct, frozen=True, kw_only=True):
    """The answer to a request. `outcome` TIE marks one that another answer equalled."""

    request_id: Uuid7
    answer: ShortText
    outcome: Outcome
    confidence: Probability
    margin: Probability
    route: Route
    arm: Name
    policy: Name
    steps: Annotated[tuple[StepAnswer, ...], Meta(max_length=MAX_STEPS)]
    tally: Annotated[tuple[TallyRow, ...], Meta(max_length=MAX_SAMPLES)]  # of the last step
    num_paths: Count  # decoded, in all steps
    tokens_in: Count
    tokens_out: Count
    elapsed_ms: DurationMs  # since the request was asked


class RequestFailed(Struct, frozen=True, kw_only=True):
    """A request that ends without an answer, and why."""

    request_id: Uuid7
    failure: RequestFailure
    message: ShortText
    num_paths: Count = 0
    tokens_in: Count = 0
    tokens_out: Count = 0
    elapsed_ms: DurationMs = 0.0


class FeedbackGiven(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What someone thinks of an answer: a reward, the right answer, or both."""

    request_id: Uuid7
    reward: Annotated[Probability | None, Meta(description="1: right or helpful, 0: wrong or useless")] = None
    right_answer: ShortText | None = None
    comment: ShortText | None = None
    source: Label = "user"

    def __post_init__(self) -> None:
        if self.reward is None and self.right_answer is None:
            raise ValueError("`reward` or `right_answer` must be given - at `$.reward`")


class WeightsPublished(Struct, frozen=True, kw_only=True):
    """What feedback has taught: how an experiment's traffic is shared among its arms."""

    experiment: Name
    version: Count
    allocation: Annotated[dict[Name, Probability], Meta(min_length=1, max_length=64)]

    def __post_init__(self) -> None:
        if abs(sum(self.allocation.values()) - 1.0) > 1e-6:
            raise ValueError("`allocation` must add up to 1 - at `$.allocation`")


Event = (
    ReasoningRequested
    | PlanMade
    | SampleRequested
    | PathDecoded
    | PathFailed
    | TallyCarried
    | StepClosed
    | StepDecided
    | PlanCarried
    | AnswerReached
    | RequestFailed
    | FeedbackGiven
    | WeightsPublished
)


def _check_launched(sample_index: int, launched: int) -> None:
    if sample_index >= launched:
        raise ValueError(f"`launched` must be above `sample_index` {sample_index}, got {launched} - at `$.launched`")
