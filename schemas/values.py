"""Values that events carry: closed sets, and the frozen structs that travel inside several events.

What is chosen among things that will grow (strategies, programs, rules) is a `Name` here, and a row of a table there: a new
row changes no event. The decomposer, the only door, takes no name that its tables lack.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from schemas.ids import UUID7_PATTERN, StepId, step_id

MAX_QUESTION_CHARS = 16_384
MAX_TEXT_CHARS = 262_144
MAX_CHUNK_CHARS = 65_536  # 384 KiB at most, as a character takes six bytes at most in JSON
MAX_CHUNKS = 64
MAX_SAMPLES = 256
MAX_TURNS = 64
MAX_STEPS = 64
MAX_ASKS = 16
MAX_SCHEMA_CHARS = 8_192

# PostgreSQL stores no NUL in text, and a NUL in a question is never meant.
NO_NUL_PATTERN = r"^[^\u0000]*$"

# What shows nothing: white space, control and formatting characters, fillers, variation selectors, tags.
_BLANK = (
    "[\\u0000-\\u0020\\u007f-\\u00a0\\u00ad\\u034f\\u061c\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200f"
    "\\u2028-\\u202f\\u205f-\\u206f\\u2800\\u3000\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff9-\\ufffb\U000e0000-\U000e0fff]"
)
BLANK_PATTERN = f"^{_BLANK}*$"
_is_blank: Callable[[str], re.Match[str] | None] = re.compile(f"{_BLANK}*").fullmatch

Uuid7 = Annotated[str, Meta(pattern=UUID7_PATTERN, max_length=36, description="UUIDv7 in lower case")]
Question = Annotated[str, Meta(min_length=1, max_length=MAX_QUESTION_CHARS, pattern=NO_NUL_PATTERN)]
Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9._-]*$", max_length=64)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
ShortText = Annotated[str, Meta(max_length=4096, pattern=NO_NUL_PATTERN)]
Label = Annotated[str, Meta(max_length=256, pattern=NO_NUL_PATTERN)]
IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=256, pattern=NO_NUL_PATTERN)]
PolicyReference = Annotated[str, Meta(max_length=80)]  # no pattern: an unknown name is refused at the door, by name
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="BLAKE2b-256 of the text in UTF-8")]
PolicyVersion = Annotated[int, Meta(ge=1, le=1_000_000)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
TokenLimit = Annotated[int, Meta(ge=1, le=2**53, description="tokens generated")]
FiniteNumber = Annotated[float, Meta(ge=-1e15, le=1e15)]
Scale = Annotated[int, Meta(ge=2, le=1000)]
SampleIndex = Annotated[int, Meta(ge=0, lt=MAX_SAMPLES)]
SampleCount = Annotated[int, Meta(ge=1, le=MAX_SAMPLES)]
StepIndex = Annotated[int, Meta(ge=0, lt=MAX_STEPS)]
TimestampMs = Annotated[int, Meta(ge=0, lt=2**48, description="milliseconds since 1970-01-01 UTC")]
Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]
DurationMs = Annotated[float, Meta(ge=0.0)]
LogProbability = Annotated[float, Meta(le=0.0, description="natural logarithm")]


def is_blank(text: str) -> bool:
    """True for a text that shows nothing: empty, white space, or characters of no width."""
    return _is_blank(text) is not None


class Outcome(StrEnum):
    """What a vote came to."""

    MAJORITY = "majority"  # one answer leads
    TIE = "tie"  # several lead; the one whose first vote was launched earliest is reported, with margin 0
    NO_ANSWER = "no_answer"  # no path gave an answer


class StopReason(StrEnum):
    """Why a step's sampling ended, as the voter says it; in a verdict it is a name."""

    CONFIDENT = "confident"  # the stopping rule is satisfied
    SETTLED = "settled"  # no sample that was left could have changed who wins
    EXHAUSTED = "exhausted"  # max_samples have reported
    DEADLINE = "deadline"  # time was up before any of these
    BUDGET = "budget"  # another wave could cost more than the step was allowed
    NO_CONSENSUS = "no_consensus"  # sampling ended, and no answer has the share that its voting rule asks for
    DECLINED = "declined"  # sampling ended, and most paths say that it is no question for their model


RECALLED = "recalled"  # the stop reason of a step whose answer was remembered: no path was decoded


class FinishReason(StrEnum):
    """Why the engine stopped generating a path."""

    STOP = "stop"  # the model ended it, or a stop string did
    LENGTH = "length"  # it was cut at its limit
    TOOL_CALLS = "tool_calls"  # the model asks for a tool
    CONTENT_FILTER = "content_filter"  # the server kept the rest back
    ABORT = "abort"  # the server gave it up
    NONE = "none"  # a reason that is not known here


class PathFailure(StrEnum):
    """Why a sample became no path."""

    CANCELLED = "cancelled"  # its step was decided without it
    DEADLINE = "deadline"
    PROMPT_TOO_LONG = "prompt_too_long"
    BAD_PROMPT = "bad_prompt"  # unknown prompt set or form, or a field that the form needs is missing
    BAD_REQUEST = "bad_request"  # the model server will not take such a path, whoever asks
    CONTENT_FILTERED = "content_filtered"  # a content filter, or the model itself, refused it
    NOTHING_SENT = "nothing_sent"  # the model server answered without a word
    ENGINE = "engine"  # the engine failed on it repeatedly


class RequestFailure(StrEnum):
    """Why a request got no answer."""

    INVALID = "invalid"
    NO_ANSWER = "no_answer"  # every path ended, none with an answer
    DEADLINE = "deadline"
    CANCELLED = "cancelled"  # who asked wants no answer any more


class EndReason(StrEnum):
    """Why a request ended when it did; in events it is a name."""

    DECIDED = "decided"  # its strategy asked for no more
    BUDGET = "budget"  # what its policy may spend was used up: the answer is the best so far
    DEADLINE = "deadline"  # its time was up: the same


Params = Annotated[dict[Name, float], Meta(max_length=32)]
Dollars = Annotated[float, Meta(ge=0.0)]


class Price(Struct, frozen=True, kw_only=True):
    """What a model costs, in dollars per million tokens."""

    tokens_in: Dollars = 0.0
    tokens_out: Dollars = 0.0


class Allowance(Struct, frozen=True, kw_only=True):
    """What the paths of one step may cost together; whoever launches them reserves before a wave what it may cost at most."""

    max_tokens: Annotated[Count | None, Meta(description="generated")] = None
    max_dollars: Dollars | None = None
    price: Price = Price()


class Ask(Struct, frozen=True, kw_only=True):
    """How one kind of question is put and decided: the prompt, the sampling, and the vote.

    It travels in each sample of its steps, so that a sample is decoded and counted by the rules that launched it, whatever
    was deployed since.
    """

    form: Name
    program: Name = "once"  # conclave.domain.programs: how a path goes on after its first turn
    max_turns: Annotated[int, Meta(ge=1, le=MAX_TURNS)] = 1  # of the model; what tools answer is not counted
    tools: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()  # that a path may call
    temperature: Annotated[float, Meta(ge=0.0, le=5.0)] = 0.8
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    max_tokens: Annotated[int, Meta(ge=1, le=131_072, description="of one turn")] = 256
    # A path hands on how far it has come after so many tokens of a turn: what a crash costs it at most. 0: not before its end.
    chunk_tokens: Annotated[int, Meta(ge=0, le=131_072)] = 0
    max_samples: SampleCount = 16
    stopping: Name = "adaptive_consistency"
    schedule: Name = "waves"  # conclave.domain.schedules: when samples are launched, never what they come to
    voting: Name = "majority"
    equivalence: Name = "short_answer"
    weighing: Name = "alike"
    confidence: Name = "lead"
    # What a confidence of 0, … 1 turned out to be worth, at even distances; () leaves it as it is.
    calibration: Annotated[tuple[Probability, ...], Meta(max_length=101)] = ()
    # What a vote weighs whose path says 0, … 1 of itself, at even distances; () weighs all alike. Of weighing `learned`.
    vote_weights: Annotated[tuple[Probability, ...], Meta(max_length=101)] = ()
    params: Params = {}  # of its rules: window, lead, stop_confidence, …
    # The JSON Schema that answers have to fit, as accepted at the door; "": they are short answers.
    answer_schema: Annotated[str, Meta(max_length=MAX_SCHEMA_CHARS)] = ""
    allowance: Allowance | None = None  # of each of its steps; a plan's budget may leave less

    def __post_init__(self) -> None:
        if len(self.calibration) == 1:
            raise ValueError("`calibration` must have no points or at least two - at `$.calibration`")
        if len(self.vote_weights) == 1:
            raise ValueError("`vote_weights` must have no points or at least two - at `$.vote_weights`")


class Budget(Struct, frozen=True, kw_only=True):
    """What a request may cost at most, beyond its deadline."""

    max_steps: Annotated[int, Meta(ge=1, le=MAX_STEPS)] = 16
    max_tokens: Annotated[Count | None, Meta(description="generated, over all paths that were counted")] = None
    max_seconds: Annotated[float, Meta(gt=0.0, le=86_400.0, description="since it was asked")] | None = None
    max_dollars: Annotated[Dollars | None, Meta(description="by the dearest of the policy's prices")] = None


class Effort(Struct, frozen=True, kw_only=True):
    """How much to think, from the question: max(least, round(per_point * complexity)), and `most` at most.

    The figure becomes the value of strategy parameters and the samples of asks.
    """

    estimator: Name = "clauses"  # conclave.domain.complexity
    per_point: Annotated[float, Meta(ge=0.0, le=64.0)] = 1.5
    least: SampleCount = 2
    most: SampleCount = 16
    params: Annotated[tuple[Name, ...], Meta(max_length=8)] = ()  # of the strategy: rounds, …
    samples_of: Annotated[tuple[Name, ...], Meta(max_length=MAX_ASKS)] = ()  # asks

    def __post_init__(self) -> None:
        if self.most < self.least:
            raise ValueError(f"`most` must be at least `least`, got {self.most} and {self.least} - at `$.most`")


class Policy(Struct, frozen=True, kw_only=True):
    """A reasoning policy: a strategy, how it puts each kind of question, and what it may spend.

    It travels whole in the plan. `digest` is of all the rest: an edited policy is another one, whatever its name.
    """

    name: Name
    version: PolicyVersion = 1
    digest: Label = ""
    prompt_set: Name
    strategy: Name = "vote"
    params: Params = {}  # of the strategy: floor, rounds, width, …
    asks: Annotated[dict[Name, Ask], Meta(min_length=1, max_length=MAX_ASKS)]
    budget: Budget = Budget()
    prices: Annotated[dict[Label, Price], Meta(max_length=16)] = {}  # by model
    effort: Effort | None = None


class Fingerprint(Struct, frozen=True, kw_only=True):
    """What a question is found again by: digests that cover tenant, policy and limits as well, so none is another tenant's.

    `key` is of the question's normal form, `gist` of what must be equal for two questions to ask the same ("": not looked for).
    """

    key: Label
    gist: Label = ""
    tenant: Label = ""


class Step(Struct, frozen=True, kw_only=True):
    """A question of its own inside a request. It exists once it can be asked, so its fields are filled."""

    index: StepIndex
    ask: Name = "whole"  # the entry of the policy's asks by which it is put
    fields: Annotated[dict[Name, Question], Meta(max_length=16)]  # what the prompt form is filled with: question, …
    mark: Label = ""  # the strategy's own name for it: "#3", "round 2", "1.2.1"
    depends_on: Annotated[tuple[StepIndex, ...], Meta(max_length=MAX_STEPS)] = ()  # whose answers are in the fields
    why: Label = ""  # what made the strategy ask it, for who reads the trace


class StepContext(Struct, frozen=True, kw_only=True):
    """All that decoder and voter need to know of a step: it travels in each of its samples and paths.

    Services hand it on, and an older one drops a field that it does not know. So a new field has a default, and only the
    decomposer, deployed last, brings another value into the pipeline.
    """

    request_id: Uuid7
    step: Step
    ask: Ask
    prompt_set: Name
    policy: Name
    deadline_ms: TimestampMs
    arm: Name = "default"
    priority: Name = "standard"  # conclave.domain.priorities: what share of the engine it is decoded on
    tenant: Label = ""  # whose it is: those of a class share alike
    conversation: Label = ""  # whose other turns a decoder has in its KV cache; "": none, or too many

    @property
    def step_index(self) -> int:
        """The step's place among those of its request."""
        return self.step.index

    @property
    def step_id(self) -> StepId:
        """The id of the step, the Kafka key of its paths."""
        return step_id(self.request_id, self.step.index)


class Call(Struct, frozen=True):
    """What a turn hands to a tool."""

    tool: Name
    argument: Text


class Turn(Struct, frozen=True, kw_only=True):
    """One turn of a path: what the model said to a form or, where `tool` is set, how that tool's answer was put in.

    `answer` is what was found in it: an answer, a criticism, a probability, a tool's result. A path that goes on after a
    call is one text in several turns; the prompt of each holds those before, so `tokens_in` counts them again.
    """

    form: Name
    text: Text
    answer: ShortText | None = None
    call: Call | None = None  # what the model asks of a tool at the end of the turn
    tool: Name | None = None
    tokens_in: Count = 0
    tokens_out: Count = 0
    is_declined: bool = False  # the model says that what it is asked is not what it is for


class TurnFigures(Struct, frozen=True, kw_only=True):
    """What an engine said of a turn besides what was said in it; None where it does not say."""

    finish_reason: FinishReason
    tokens_in: Count | None = None
    tokens_out: Count | None = None
    mean_logprob: LogProbability | None = None
    min_logprob: LogProbability | None = None
    answer_logprob: LogProbability | None = None  # this and the next two: of a turn that is over, see PathDecoded
    lowest_group_logprob: LogProbability | None = None
    tail_logprob: LogProbability | None = None
    queued_ms: DurationMs = 0.0
    first_token_ms: DurationMs = 0.0
    total_ms: DurationMs = 0.0
    reasoning: Text = ""


class BegunTurn(Struct, frozen=True, kw_only=True):
    """What was decoded of a turn that was cut: whoever goes on begins behind it, and what came of both is one turn.

    Of each token, in order: its log probability and its text, where the engine says them, and its id in the vocabulary of
    `model`, where another may go on from ids. Numbers are packed: four bytes each, little-endian, floats and unsigned integers.
    """

    text: Text
    figures: TurnFigures
    logprobs: bytes = b""
    pieces: tuple[str, ...] = ()
    token_ids: bytes = b""
    model: Label = ""

    def __post_init__(self) -> None:
        if len(self.logprobs) % 4 or len(self.token_ids) % 4:
            raise ValueError("`logprobs` and `token_ids` must hold four bytes a token - at `$.logprobs`")
        if self.pieces and len(self.pieces) * 4 != len(self.logprobs):
            raise ValueError("`pieces` must be as many as `logprobs` - at `$.pieces`")


class Progress(Struct, frozen=True, kw_only=True):
    """How far a path has come that was handed on: the turns that are over, and the one that was cut, if any was."""

    num_handed_on: Annotated[int, Meta(ge=1, le=2**31)]
    turns: Annotated[tuple[Turn, ...], Meta(max_length=2 * MAX_TURNS)] = ()
    figures: Annotated[tuple[TurnFigures, ...], Meta(max_length=2 * MAX_TURNS)] = ()  # of those that are the model's
    begun: BegunTurn | None = None
    waited_ms: DurationMs = 0.0

    @property
    def tokens_in(self) -> int:
        """Of all prompts so far, as far as they are known."""
        return sum(turn.tokens_in for turn in self.turns) + ((self.begun and self.begun.figures.tokens_in) or 0)

    @property
    def tokens_out(self) -> int:
        """Generated so far, as far as it is known."""
        return sum(turn.tokens_out for turn in self.turns) + ((self.begun and self.begun.figures.tokens_out) or 0)

    def __post_init__(self) -> None:
        if len(self.figures) != sum(turn.tool is None for turn in self.turns):
            raise ValueError("`figures` must be those of the model's turns, one each - at `$.figures`")


class LongText(Struct, frozen=True, kw_only=True):
    """Where a text is that is too long for its event: in so many chunks on reasoning.texts, addressed by its digest."""

    digest: Digest
    num_chunks: Annotated[int, Meta(ge=1, le=MAX_CHUNKS)]
    num_chars: Count


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


class StepAnswer(Struct, frozen=True, kw_only=True):
    """One step's part in a request's answer."""

    step_index: StepIndex
    mark: Label = ""
    outcome: Outcome
    answer: ShortText | None
    confidence: Probability
    num_samples: Count


class PolicyFile(Struct, frozen=True, kw_only=True):
    """A policy as a decomposer has read it: `name@version`, the digest of what it says, and its file without the folder."""

    policy: PolicyReference
    digest: Label
    file: Label
    modified_ms: TimestampMs = 0  # when the file was last written; 0: unknown
