"""A step's samples, the paths that they become, and the voter's carry."""

from typing import Annotated, ClassVar

from msgspec import Meta

from schemas.events.base import Event
from schemas.ids import StepId
from schemas.values import (
    MAX_CHUNK_CHARS,
    MAX_CHUNKS,
    MAX_SAMPLES,
    MAX_TURNS,
    Ballot,
    Count,
    Digest,
    DurationMs,
    FinishReason,
    Label,
    LogProbability,
    LongText,
    Name,
    PathFailure,
    Probability,
    Progress,
    SampleCount,
    SampleIndex,
    ShortText,
    StepContext,
    Text,
    Turn,
    Uuid7,
)


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
    tokens_cached: Count | None = (
        None  # of `tokens_in`, those that were in the engine's cache already; None where it does not say
    )

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


def _check_launched(sample_index: int, launched: int) -> None:
    if sample_index >= launched:
        raise ValueError(f"`launched` must be above `sample_index` {sample_index}, got {launched} - at `$.launched`")
