"""Values that events carry: closed sets, and the frozen structs that travel inside several events."""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from schemas.ids import UUID7_PATTERN, StepId, step_id

MAX_QUESTION_CHARS = 16_384
MAX_TEXT_CHARS = 262_144
MAX_SAMPLES = 256
MAX_STEPS = 32

# PostgreSQL stores no NUL in text, and a NUL in a question is never meant.
_NO_NUL = r"^[^\u0000]*$"

# What shows nothing: white space, control and formatting characters, fillers, variation selectors, tags.
_BLANK = (
    "[\\u0000-\\u0020\\u007f-\\u00a0\\u00ad\\u034f\\u061c\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200f"
    "\\u2028-\\u202f\\u205f-\\u206f\\u2800\\u3000\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff9-\\ufffb\U000e0000-\U000e0fff]"
)
BLANK_PATTERN = f"^{_BLANK}*$"
_is_blank: Callable[[str], re.Match[str] | None] = re.compile(f"{_BLANK}*").fullmatch

Uuid7 = Annotated[str, Meta(pattern=UUID7_PATTERN, max_length=36, description="UUIDv7 in lower case")]
Question = Annotated[str, Meta(min_length=1, max_length=MAX_QUESTION_CHARS, pattern=_NO_NUL)]
Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9._-]*$", max_length=64)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
ShortText = Annotated[str, Meta(max_length=4096, pattern=_NO_NUL)]
Label = Annotated[str, Meta(max_length=256, pattern=_NO_NUL)]
IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=256, pattern=_NO_NUL)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
SampleIndex = Annotated[int, Meta(ge=0, lt=MAX_SAMPLES)]
SampleCount = Annotated[int, Meta(ge=1, le=MAX_SAMPLES)]
StepIndex = Annotated[int, Meta(ge=0, lt=MAX_STEPS)]
TimestampMs = Annotated[int, Meta(ge=0, lt=2**48, description="milliseconds since 1970-01-01 UTC")]
DurationMs = Annotated[float, Meta(ge=0.0)]
LogProbability = Annotated[float, Meta(le=0.0, description="natural logarithm")]


def is_blank(text: str) -> bool:
    """True for a text that shows nothing: empty, white space, or characters of no width."""
    return _is_blank(text) is not None


class Route(StrEnum):
    """How much thought a question gets."""

    DIRECT = "direct"  # one short answer
    EXPLICIT = "explicit"  # split, sample, vote, aggregate
    CONTEMPLATIVE = "contemplative"  # inner rounds of reflection


class VotingRule(StrEnum):
    """How ballots become a winner; conclave.domain.voting holds one function a member."""

    MAJORITY = "majority"


class StoppingRule(StrEnum):
    """When enough samples have been drawn; conclave.domain.stopping holds one function a member."""

    FIXED = "fixed"
    ADAPTIVE_CONSISTENCY = "adaptive_consistency"
    EARLY_STOPPING = "early_stopping"
    AHEAD_BY_K = "ahead_by_k"


class Outcome(StrEnum):
    """What a vote came to."""

    MAJORITY = "majority"  # one answer leads
    TIE = "tie"  # several lead; the one whose first vote was launched earliest is reported, with margin 0
    NO_ANSWER = "no_answer"  # no path gave an answer


class StopReason(StrEnum):
    """Why a step's sampling ended."""

    CONFIDENT = "confident"  # the stopping rule is satisfied
    EXHAUSTED = "exhausted"  # max_samples have reported
    DEADLINE = "deadline"  # time was up before either


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


class Policy(Struct, frozen=True, kw_only=True):
    """A reasoning policy: everything that decides how a step is sampled, voted on and stopped.

    It travels whole in the events, so that a sample is decoded by the policy that launched it, whatever was deployed since.
    """

    name: Name
    prompt_set: Name
    form: Name = "chain_of_thought"
    voting: VotingRule = VotingRule.MAJORITY
    stopping: StoppingRule = StoppingRule.ADAPTIVE_CONSISTENCY
    stop_confidence: Probability = 0.95
    window: SampleCount = 5  # of early_stopping: so many equal answers in a row
    lead: SampleCount = 3  # of ahead_by_k
    max_samples: SampleCount = 16
    temperature: Annotated[float, Meta(ge=0.0, le=5.0)] = 0.8
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    max_tokens: Annotated[int, Meta(ge=1, le=131_072)] = 256


class Step(Struct, frozen=True, kw_only=True):
    """One node of a plan: a question of its own, and the steps whose answers it needs."""

    index: StepIndex
    question: Question
    depends_on: Annotated[tuple[StepIndex, ...], Meta(max_length=MAX_STEPS)] = ()


class StepContext(Struct, frozen=True, kw_only=True):
    """All that decoder and voter need to know of a step: it travels in each of its samples and paths."""

    request_id: Uuid7
    step_index: StepIndex
    policy: Policy
    fields: Annotated[dict[str, Question], Meta(max_length=16)]  # what the prompt form is filled with: question, …
    deadline_ms: TimestampMs
    arm: Name = "default"

    @property
    def step_id(self) -> StepId:
        """The id of the step, the Kafka key of its samples and paths."""
        return step_id(self.request_id, self.step_index)


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


class Ballot(Struct, frozen=True, kw_only=True):
    """One path's say in a vote. `answer`, as the path wrote it, is None when it gave none; a failed sample has `failure`.

    A verdict adds `tally_row`, the row of its tally that the ballot counts for: None when it says nothing.
    """

    sample_index: SampleIndex
    answer: ShortText | None = None
    weight: Annotated[float, Meta(ge=0.0)] = 1.0
    tally_row: SampleIndex | None = None
    failure: PathFailure | None = None
    tokens_in: Count = 0
    tokens_out: Count = 0
    mean_logprob: LogProbability | None = None


class TallyRow(Struct, frozen=True, kw_only=True):
    """Votes for one answer, as the first of its paths in launch order wrote it.

    `weight` equals `votes` while every path weighs 1.
    """

    answer: ShortText
    votes: Count
    weight: Annotated[float, Meta(ge=0.0)]


class StepAnswer(Struct, frozen=True, kw_only=True):
    """One step's part in a request's answer."""

    step_index: StepIndex
    outcome: Outcome
    answer: ShortText | None
    confidence: Probability
    num_samples: Count
