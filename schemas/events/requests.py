"""A question, and how it ends: what people and programs see of Conclave."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from schemas.events.base import Event
from schemas.experiments import ShadowOf
from schemas.values import (
    MAX_SAMPLES,
    MAX_STEPS,
    Count,
    DurationMs,
    FieldVerdict,
    Fork,
    IdempotencyKey,
    Label,
    Name,
    Outcome,
    PolicyReference,
    Probability,
    Question,
    RequestFailure,
    SampleCount,
    Seconds,
    ShortText,
    StepAnswer,
    StepIndex,
    TallyRow,
    TimestampMs,
    TokenLimit,
    Uuid7,
    is_blank,
)


class ReasoningRequested(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    policy: Annotated[
        PolicyReference | None,
        Meta(description="name of a reasoning policy, or name@version; default: the service's choice"),
    ] = None
    max_samples: Annotated[SampleCount | None, Meta(description="paths to decode per step at most")] = None
    quality: Annotated[
        Name | None,
        Meta(description="economy, standard or strict: when a vote has enough paths; default: as the policy has it"),
    ] = None
    priority: Annotated[
        Name | None,
        Meta(
            description="interactive, standard or batch: whose turn it is while the engine is full; default: standard"
        ),
    ] = None
    answer_schema: Annotated[
        dict[str, Any] | None,
        Meta(description="JSON Schema of an object: the answer is one that fits it, voted on property by property"),
    ] = None
    max_tokens: Annotated[
        TokenLimit | None,
        Meta(description="generated at most, over all paths that are counted; besides the budget of the policy"),
    ] = None
    max_turn_tokens: Annotated[
        TokenLimit | None, Meta(description="generated at most in a turn of a path, where its policy allows more")
    ] = None
    deadline_s: Annotated[float, Meta(gt=0.0, le=86_400.0, description="seconds until the answer is worthless")] = 600.0
    tags: Annotated[dict[Label, Label], Meta(max_length=16, description="stored with the request, for analysts")] = {}
    fork: Annotated[Fork | None, Meta(description="the request that it goes on from, with the steps that are kept")] = (
        None
    )
    max_age_s: Annotated[
        Seconds | None,
        Meta(description="how old a remembered answer may be; 0: think anew; default: the service's choice"),
    ] = None
    shadow: Annotated[
        ShadowOf | None, Meta(description="set by the pipeline on the copies that it makes for an experiment's shadow")
    ] = None

    def __post_init__(self) -> None:
        if is_blank(self.question):
            raise ValueError("`question` must hold more than white space - at `$.question`")


class RequestCancelled(Event, frozen=True, kw_only=True):
    """Who asked wants no answer any more. A request that has ended stays as it ended."""

    request_id: Uuid7
    until_ms: TimestampMs  # when it is forgotten, where no request is open under this id


class AnswerReached(Event, frozen=True, kw_only=True):
    """The answer to a request. `outcome` TIE marks one that another answer equalled."""

    VERSION: ClassVar[int] = 2

    request_id: Uuid7
    answer: ShortText
    outcome: Outcome
    confidence: Probability
    margin: Probability
    strategy: Name
    arm: Name
    policy: Name
    answered_by: StepIndex  # the step whose answer this is
    steps: Annotated[tuple[StepAnswer, ...], Meta(max_length=MAX_STEPS)]  # those decided
    tally: Annotated[tuple[TallyRow, ...], Meta(max_length=MAX_SAMPLES)]  # of that step, the heaviest answers
    num_paths: Count  # decoded, in all steps
    tokens_in: Count
    tokens_out: Count
    elapsed_ms: DurationMs  # since the request was asked
    ended_by: Name = "decided"  # see EndReason
    fields: Annotated[
        tuple[FieldVerdict, ...], Meta(max_length=64)
    ] = ()  # of a structured answer, without their tallies
    recalled_from: Uuid7 | None = None  # the request that was thought about, where this one was not


class RequestFailed(Event, frozen=True, kw_only=True):
    """A request that ends without an answer, and why."""

    VERSION: ClassVar[int] = 2

    request_id: Uuid7
    failure: RequestFailure
    message: ShortText
    num_paths: Count = 0
    tokens_in: Count = 0
    tokens_out: Count = 0
    elapsed_ms: DurationMs = 0.0
    ended_by: Name = "decided"  # see EndReason
    fields: Annotated[tuple[FieldVerdict, ...], Meta(max_length=64)] = ()  # of a structured answer that was not reached
