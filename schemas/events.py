"""Every event, a struct each. The topic of each, and who writes and reads it, stand in `schemas.flow`.

Two kinds: *producer-facing* events (ReasoningRequested, FeedbackGiven) come from anyone, so an unknown field is an error
there, most likely a typing mistake; all others come from Conclave's services, which ignore fields they do not know, so
that a newer service may add one.
"""

from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from schemas.experiments import ArmState, Assignment, Change, Experiment, Rater, ShadowOf
from schemas.ids import StepId, step_id
from schemas.values import (
    MAX_CHUNK_CHARS,
    MAX_CHUNKS,
    MAX_SAMPLES,
    MAX_SCHEMA_CHARS,
    MAX_STEPS,
    MAX_TURNS,
    Ballot,
    Call,
    Count,
    Digest,
    DurationMs,
    FieldVerdict,
    Fingerprint,
    FinishReason,
    FiniteNumber,
    Fork,
    IdempotencyKey,
    Label,
    LogProbability,
    LongText,
    Name,
    Outcome,
    PathFailure,
    Policy,
    PolicyFile,
    PolicyReference,
    Probability,
    Progress,
    Question,
    RequestFailure,
    SampleCount,
    SampleIndex,
    Scale,
    Seconds,
    ShortText,
    Step,
    StepAnswer,
    StepContext,
    StepIndex,
    TallyRow,
    Text,
    TimestampMs,
    TokenLimit,
    Turn,
    Uuid7,
    Verdict,
    is_blank,
)

MAX_POLICY_FILES = 1000


class Event(Struct, frozen=True, kw_only=True):
    """What all events are. An event is a class here, and a row of `schemas.flow.TOPICS` that says where it lies.

    VERSION is its major version: a breaking change to a released one raises it, with a row in schemas.upcasts. The record's
    key is the attribute that its topic's row names: `request_id`, `step_id`, `decoder_key` or `experiment`.
    """

    VERSION: ClassVar[int] = 1


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


class PlanMade(Event, frozen=True, kw_only=True):
    """How a request will be reasoned about: its policy, and the steps that its strategy asks first."""

    VERSION: ClassVar[int] = 2

    request_id: Uuid7
    question: Question
    arm: Name
    propensity: Annotated[float, Meta(gt=0.0, le=1.0)]  # probability with which this arm was picked
    policy: Policy
    steps: Annotated[tuple[Step, ...], Meta(min_length=1, max_length=MAX_STEPS)]
    deadline_ms: TimestampMs
    max_samples: SampleCount | None = None  # the request's own limit for the votes of its steps
    spent_ms: TimestampMs | None = (
        None  # when the seconds of the policy's budget are used up, where that is before the deadline
    )
    quality: Name | None = None  # the class by whose rule they end
    answer_schema: Annotated[str, Meta(max_length=MAX_SCHEMA_CHARS)] = ""  # that the answer has to fit, as accepted
    max_tokens: TokenLimit | None = None  # the request's own limit for all paths that are counted
    max_turn_tokens: TokenLimit | None = None  # its own for a turn of a path
    reasons: Annotated[dict[Label, Label], Meta(max_length=16)] = {}  # what spoke for this policy
    weights_version: Count | None = None  # of the weights that the arm was drawn by; 0: the shares at the beginning
    assignment: Assignment | None = None  # by which experiment, if any
    fingerprint: Fingerprint | None = None  # by which its answer is found again; None: it is not
    recalled_from: Uuid7 | None = None  # the request whose answer this one is given, its only step: no path is decoded
    priority: Name = "standard"  # of all its steps
    tenant: Label = ""
    purpose: Annotated[str, Meta(max_length=1024)] = ""  # what the policy's model is for: said where it declines
    shadow: ShadowOf | None = None  # of a copy that nobody waits for: what it is a copy of
    conversation: Label = ""  # of its steps: see StepContext

    @property
    def ends_ms(self) -> int:
        """When nothing more is asked: at the deadline, or when the seconds of the budget are used up."""
        return self.deadline_ms if self.spent_ms is None else min(self.deadline_ms, self.spent_ms)

    def __post_init__(self) -> None:
        _check_steps(self.steps, first=0, at="$.steps")


class SampleRequested(Event, frozen=True, kw_only=True):
    """One path to decode. `launched` counts the step's samples up to and including this one's wave.

    With `progress` it is the rest of one: the decoder before has handed on how far the path had come. Who does not know the
    field decodes all of it.
    """

    VERSION: ClassVar[int] = 2

    context: StepContext
    sample_index: SampleIndex
    launched: SampleCount
    progress: Progress | None = None
    affinity: Label = ""  # with which samples it shares a decoder's KV cache; "": with others of its step

    @property
    def step_id(self) -> StepId:
        """The step that it belongs to."""
        return self.context.step_id

    @property
    def decoder_key(self) -> str:
        """The Kafka key: samples of one come to one decoder."""
        return self.affinity or self.context.step_id

    def __post_init__(self) -> None:
        _check_launched(self.sample_index, self.launched)


class PathDecoded(Event, frozen=True, kw_only=True):
    """A decoded path: what the model said, the answer found in it, and what it cost.

    `text` is what was said last; `turns` is what was said before, and `form` to what the last turn answers where there are
    several. Figures are sums over all turns.
    """

    VERSION: ClassVar[int] = 2

    context: StepContext
    sample_index: SampleIndex
    launched: SampleCount
    text: Text
    answer: ShortText | None
    finish_reason: FinishReason
    tokens_in: Count | None  # None where a model server does not say
    tokens_out: Count | None
    mean_logprob: LogProbability | None  # of the tokens of the turn that gave the answer; None: the engine reports none
    min_logprob: LogProbability | None
    queued_ms: DurationMs  # from the decoder's admission to the engine's start
    first_token_ms: DurationMs  # from the decoder's admission to the first token
    total_ms: DurationMs
    model: Label
    engine: Label
    probability: Probability | None = None  # that the answer is right, as the path itself states it
    turns: Annotated[tuple[Turn, ...], Meta(max_length=2 * MAX_TURNS)] = ()
    form: Name | None = None
    reasoning: Text = ""  # told apart from the text by the engine; no answer is looked for in it
    # Means over some of the tokens of that turn (conclave.domain.token_confidence): of the answer, of the group in a row that is
    # least sure, of the last group.
    answer_logprob: LogProbability | None = None
    lowest_group_logprob: LogProbability | None = None
    tail_logprob: LogProbability | None = None
    load: Probability | None = (
        None  # how full the engine was when the path ended: sequences running, of those that it runs
    )
    long_text: LongText | None = None  # set where `text` is only the end of what the model said
    is_declined: bool = False  # the model says that this is no question for it; then there is no answer
    waited_ms: DurationMs = 0.0  # for its turns on the engine, in the decoder
    num_handed_on: Count = 0  # so often a decoder handed on how far it had come, and went on from there, or another did

    @property
    def step_id(self) -> StepId:
        """The step that it belongs to."""
        return self.context.step_id

    def __post_init__(self) -> None:
        _check_launched(self.sample_index, self.launched)


class TextStored(Event, frozen=True, kw_only=True):
    """A chunk of a text that is too long for the event that it belongs to, which names the digest of all of it.

    Chunks are published in one transaction with that event. They say nothing of their own: only the record reads them.
    """

    request_id: Uuid7
    digest: Digest
    chunk_index: Annotated[int, Meta(ge=0, lt=MAX_CHUNKS)]
    text: Annotated[str, Meta(min_length=1, max_length=MAX_CHUNK_CHARS)]


class PathFailed(Event, frozen=True, kw_only=True):
    """The other way for a sample to end: it failed or was cancelled."""

    VERSION: ClassVar[int] = 2

    context: StepContext
    sample_index: SampleIndex
    launched: SampleCount
    failure: PathFailure
    message: ShortText
    tokens_in: Count = 0
    tokens_out: Count = 0  # generated before the end came
    total_ms: DurationMs = 0.0
    num_handed_on: Count = 0

    @property
    def step_id(self) -> StepId:
        """The step that it belongs to."""
        return self.context.step_id

    def __post_init__(self) -> None:
        _check_launched(self.sample_index, self.launched)


class TallyCarried(Event, frozen=True, kw_only=True):
    """The voter's carry: all that a step's vote has seen so far, addressed to itself.

    `ballots` holds one ballot for each sample that has ended, failed ones too. Once `is_decided`, it only waits for the
    samples that have not reported yet.
    """

    VERSION: ClassVar[int] = 2

    context: StepContext
    launched: SampleCount
    ballots: Annotated[tuple[Ballot, ...], Meta(max_length=MAX_SAMPLES)]
    is_decided: bool

    @property
    def step_id(self) -> StepId:
        """The step that it belongs to."""
        return self.context.step_id

    def __post_init__(self) -> None:
        indexes = {ballot.sample_index for ballot in self.ballots}
        if len(indexes) != len(self.ballots):
            raise ValueError("a sample has several ballots - at `$.ballots`")
        if indexes and max(indexes) >= self.launched:
            raise ValueError(f"a ballot's sample was never launched (`launched` is {self.launched}) - at `$.ballots`")


class StepClosed(Event, frozen=True, kw_only=True):
    """A step needs no more samples: every decoder cancels those it still runs."""

    VERSION: ClassVar[int] = 2

    request_id: Uuid7
    step_index: StepIndex

    @property
    def step_id(self) -> StepId:
        """The id of the closed step."""
        return step_id(self.request_id, self.step_index)


class RequestCancelled(Event, frozen=True, kw_only=True):
    """Who asked wants no answer any more. A request that has ended stays as it ended."""

    request_id: Uuid7
    until_ms: TimestampMs  # when it is forgotten, where no request is open under this id


class ToolRequested(Event, frozen=True, kw_only=True):
    """A call of a tool that is no part of a path. It is made once, however often this is read: its step's id is its key."""

    context: StepContext
    call: Call
    is_approved: bool = False  # somebody said yes to it

    @property
    def step_id(self) -> StepId:
        """The step that makes the call."""
        return self.context.step_id


class ApprovalRequested(Event, frozen=True, kw_only=True):
    """A call that is made only if somebody says yes. Nobody acts on it but people: it waits in the thought of its request."""

    context: StepContext
    call: Call
    until_ms: TimestampMs  # then it is not made any more

    @property
    def step_id(self) -> StepId:
        """The step that would make the call."""
        return self.context.step_id


class ApprovalGiven(Event, frozen=True, kw_only=True):
    """Somebody's yes or no to a call that waits for it. The first counts, and of those that come together a no."""

    request_id: Uuid7
    step_index: StepIndex
    is_approved: bool
    given_by: Label
    why: Label = ""
    until_ms: TimestampMs  # when it is forgotten, where no request is open under this id


class StepDecided(Event, frozen=True, kw_only=True):
    """The verdict on a step: the answer that won, how clearly, and every ballot that was counted."""

    VERSION: ClassVar[int] = 2

    request_id: Uuid7
    step_index: StepIndex
    outcome: Outcome
    stop_reason: Name  # see StopReason; "recalled" where no path was decoded
    answer: ShortText | None  # None only with Outcome.NO_ANSWER
    confidence: Probability  # that the answer is right, by the rule that its ask names, and recalibrated
    margin: Probability  # share of the winner's weight minus the runner-up's
    agreement: Probability  # share of the winner's weight
    entropy: Annotated[float, Meta(ge=0.0)]  # of the answers' shares, in bits
    tally: Annotated[tuple[TallyRow, ...], Meta(max_length=MAX_SAMPLES)]  # heaviest first
    ballots: Annotated[tuple[Ballot, ...], Meta(max_length=MAX_SAMPLES)]  # in launch order, those counted
    launched: Annotated[int, Meta(ge=0, le=MAX_SAMPLES)]
    arm: Name
    policy: Name
    decided_ms: TimestampMs
    fields: Annotated[tuple[FieldVerdict, ...], Meta(max_length=64)] = ()  # of a structured answer


class ThoughtCarried(Event, frozen=True, kw_only=True):
    """The aggregator's carry: the plan, the steps added since, and the verdicts so far.

    Once `is_closed`, the request has ended, and it only absorbs verdicts that come late.
    """

    VERSION: ClassVar[int] = 2

    plan: PlanMade
    grown: Annotated[tuple[Step, ...], Meta(max_length=MAX_STEPS)]  # numbered on from the plan's
    verdicts: Annotated[tuple[Verdict, ...], Meta(max_length=MAX_STEPS)]
    is_closed: bool
    is_cancelled: bool = False
    # Steps whose call waited for somebody's yes, and does no more: it was said, or refused, or came too late.
    released: Annotated[tuple[StepIndex, ...], Meta(max_length=MAX_STEPS)] = ()

    @property
    def request_id(self) -> str:
        """The request that is thought about."""
        return self.plan.request_id

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps that were asked, by index."""
        return (*self.plan.steps, *self.grown)

    def __post_init__(self) -> None:
        _check_steps(self.grown, first=len(self.plan.steps), at="$.grown")
        asked = len(self.plan.steps) + len(self.grown)
        unknown = [verdict.step_index for verdict in self.verdicts if verdict.step_index >= asked]
        if unknown:
            raise ValueError(f"a verdict on a step that was never asked, got {unknown} of {asked} - at `$.verdicts`")


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


class FeedbackGiven(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What someone thinks of an answer, a step or a path: a judgement, a correction, or a comment.

    It is about the request's answer, or about what `step_index` and `sample_index` name. Whoever changes their mind
    publishes again: the latest of a source on one metric holds, and `supersedes` names the feedback that it replaces.
    """

    request_id: Uuid7
    reward: Annotated[Probability | None, Meta(description="1: right or helpful, 0: wrong or useless")] = None
    right_answer: Annotated[ShortText | None, Meta(description="what would have been right, or ideal")] = None
    comment: ShortText | None = None
    source: Label = "user"
    feedback_id: Annotated[
        IdempotencyKey | None,
        Meta(description="recognises feedback that is published twice; default: the CloudEvents id"),
    ] = None
    metric: Annotated[Name, Meta(description="what is judged or measured: reward, accepted, copied, retried, …")] = (
        "reward"
    )
    rater: Annotated[Rater, Meta(description="what kind of judge it is")] = Rater.USER
    step_index: Annotated[StepIndex | None, Meta(description="the step that it is about; default: the answer")] = None
    sample_index: Annotated[SampleIndex | None, Meta(description="the path of that step that it is about")] = None
    about_answer: Annotated[
        ShortText | None, Meta(description="the answer as it was shown, where it may not be the one recorded")
    ] = None
    rating: Annotated[FiniteNumber | None, Meta(description="a number, or a place on a scale of 1 to `scale`")] = None
    scale: Annotated[Scale | None, Meta(description="the best rating; the worst is 1")] = None
    chosen: Annotated[ShortText | None, Meta(description="of two answers, the better one")] = None
    rejected: Annotated[ShortText | None, Meta(description="of two answers, the other one")] = None
    supersedes: Annotated[
        IdempotencyKey | None, Meta(description="id of the feedback, of the same source, that this one replaces")
    ] = None
    is_withdrawn: Annotated[bool, Meta(description="what `supersedes` names is taken back")] = False

    def __post_init__(self) -> None:
        said = (self.reward, self.right_answer, self.comment, self.rating, self.chosen)
        if all(each is None for each in said) and not self.is_withdrawn:
            raise ValueError("`reward`, `right_answer`, `rating`, `chosen` or `comment` must be given - at `$.reward`")
        if self.sample_index is not None and self.step_index is None:
            raise ValueError("`step_index` must be given: a path is one of a step - at `$.step_index`")
        if self.scale is not None and (self.rating is None or not 1 <= self.rating <= self.scale):
            raise ValueError(f"`rating` must lie between 1 and {self.scale} - at `$.rating`")
        if (self.chosen is None) is not (self.rejected is None):
            raise ValueError("`chosen` and `rejected` must be given together - at `$.chosen`")
        if self.is_withdrawn and self.supersedes is None:
            raise ValueError("`supersedes` must say what is withdrawn - at `$.supersedes`")

    @property
    def worth(self) -> float | None:
        """The reward from 0 to 1: as it is given, or the place of the rating on its scale; None where neither is."""
        if self.reward is not None or self.rating is None or self.scale is None:
            return self.reward
        return (self.rating - 1) / (self.scale - 1)


class WeightsPublished(Event, frozen=True, kw_only=True):
    """What feedback has taught: how an experiment's traffic is shared among its arms, and all that this follows from.

    A version is a pure function of the version before, the definition of its revision, and what the record held at the
    watermark. Each holds the digest of the one before, so that none can be changed, left out or put in unseen.
    """

    experiment: Name
    version: Count
    allocation: Annotated[dict[Name, Probability], Meta(min_length=1, max_length=64)]
    revision: Count = 0
    reason: Name = "update"  # update, winner, guardrail, spent; of a shadow with checks also ramp, check
    winner: Name | None = None  # the arm that is known to be the best, for the rest of the run
    out: dict[Name, Label] = {}  # arms that broke a guardrail, for the rest of the run, and its metric
    salt: Label = ""  # of the draws that go by it
    states: dict[Name, ArmState] = {}  # by arm
    as_of_ms: TimestampMs = 0  # windows that had passed by then had passed
    watermark: dict[Label, Count] = {}  # topic/partition: how far the recorder had come
    previous_digest: Label = ""
    digest: Label = ""  # sha256 of all the rest
    spent_micro: Count = 0  # millionths of a dollar, by an experiment's shadow on the day of `as_of_ms`
    ramp_since: Count = 0  # the version at which the shadow became a ramp; 0: it has not, or there was none
    why: ShortText = ""  # of a version by which a shadow becomes a ramp, or either of them ends

    def __post_init__(self) -> None:
        if abs(sum(self.allocation.values()) - 1.0) > 1e-6:
            raise ValueError("`allocation` must add up to 1 - at `$.allocation`")


class PoliciesRead(Event, frozen=True, kw_only=True):
    """Which policies a decomposer goes by from now on: told at its start, and when its files have changed."""

    instance: Annotated[Label, Meta(min_length=1, description="the decomposer")]
    read_ms: TimestampMs
    policies: Annotated[tuple[PolicyFile, ...], Meta(max_length=MAX_POLICY_FILES)]


class ExperimentChanged(Event, frozen=True, kw_only=True):
    """What was done to an experiment, by whom and why. The newest revision holds; its definition travels with it."""

    experiment: Name
    revision: Annotated[int, Meta(ge=1, le=2**53)]
    change: Change
    definition: Experiment
    by: Label
    why: ShortText
    changed_ms: TimestampMs
    arm: Name | None = None  # that all traffic goes to, for a promotion

    def __post_init__(self) -> None:
        if self.definition.name != self.experiment:
            raise ValueError("`definition` is of another experiment - at `$.definition.name`")
        if (self.change is Change.PROMOTE) is not (self.arm is not None):
            raise ValueError("`arm` must be given for a promotion, and for nothing else - at `$.arm`")
        if self.arm is not None and self.arm not in self.definition.arms:
            raise ValueError(f"`arm` must be one of the arms, got {self.arm} - at `$.arm`")


def _check_launched(sample_index: int, launched: int) -> None:
    if sample_index >= launched:
        raise ValueError(f"`launched` must be above `sample_index` {sample_index}, got {launched} - at `$.launched`")


def _check_steps(steps: tuple[Step, ...], *, first: int, at: str) -> None:
    """Steps are numbered on, and lean on earlier ones only: no cycles, no self-references, no unknown steps."""
    for place, step in enumerate(steps):
        if step.index != first + place:
            raise ValueError(f"`index` must be {first + place}, got {step.index} - at `{at}[{place}].index`")
        unknown = [index for index in step.depends_on if index >= step.index]
        if unknown:
            raise ValueError(f"a step depends on earlier steps only, got {unknown} - at `{at}[{place}].depends_on`")
