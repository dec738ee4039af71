"""What clients send and get, field by field: decoded strictly, and the source of the OpenAPI document."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from schemas.events import FeedbackGiven
from schemas.values import (
    Count,
    Label,
    PolicyReference,
    Probability,
    Question,
    SampleCount,
    TokenLimit,
    Uuid7,
    is_blank,
)
from services.gateway.results import Result

MAX_TAGS = 15  # of a client's own; the gateway adds the tenant
MAX_CHOICES = 8

DeadlineS = Annotated[float, Meta(gt=0.0, le=86_400.0, description="seconds until the answer is worthless")]
Quality = Literal["economy", "standard", "strict"]
Priority = Literal["interactive", "standard", "batch"]
AnswerSchema = Annotated[dict[str, Any], Meta(description="JSON Schema of an object that the answer has to fit")]
Tags = Annotated[dict[Label, Label], Meta(max_length=MAX_TAGS, description="stored with the request")]


class AskBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A question to reason about. Its digest knows only what was said, so that a field more changes none."""

    question: Question
    policy: PolicyReference | None = None
    max_samples: SampleCount | None = None
    max_tokens: TokenLimit | None = None
    max_turn_tokens: TokenLimit | None = None
    quality: Quality | None = None
    priority: Priority | None = None
    answer_schema: AnswerSchema | None = None
    deadline_s: DeadlineS = 600.0
    tags: Tags = {}

    def __post_init__(self) -> None:
        if is_blank(self.question):
            raise ValueError("`question` must hold more than white space - at `$.question`")


class RequestState(Struct, frozen=True, kw_only=True):
    """Where a request is."""

    id: Uuid7
    object: Literal["request"] = "request"
    status: Literal["accepted", "running", "answered", "failed"]
    question: str | None = None
    policy: str | None = None
    tags: dict[str, str] = {}
    result: Result | None = None


class Progress(Struct, frozen=True, kw_only=True):
    """One thing that happened to a request."""

    kind: str  # planned, path or decided
    data: dict[str, Any]


class RequestTrace(Struct, frozen=True, kw_only=True):
    """How a request came to where it is."""

    request: RequestState
    happened: tuple[Progress, ...]
    object: Literal["request.trace"] = "request.trace"


class FeedbackBody(FeedbackGiven, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What someone thinks of an answer, a step or a path: all that the event has, and a yes or no as the reward."""

    reward: Annotated[
        Probability | bool | None, Meta(description="1 or true: right or helpful, 0 or false: wrong or useless")
    ] = None


class FeedbackState(Struct, frozen=True, kw_only=True):
    """Feedback that was taken. By its id it may be replaced or taken back."""

    id: Label
    request_id: Uuid7
    object: Literal["feedback"] = "feedback"


class TextPart(Struct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A part of a message. Images and sound are not read."""

    text: str


class Message(Struct, frozen=True, kw_only=True):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | tuple[TextPart, ...]
    name: str | None = None

    @property
    def text(self) -> str:
        """All that it says."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class StreamOptions(Struct, frozen=True, kw_only=True):
    """What a stream tells besides."""

    include_usage: bool = False


class TextFormat(Struct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """An answer as it was said."""


class JsonObjectFormat(Struct, frozen=True, kw_only=True, tag_field="type", tag="json_object"):
    """A JSON object of whatever properties the messages ask for, voted on as a whole."""


class JsonSchema(Struct, frozen=True, kw_only=True):
    """A schema with its name. Every answer is held to it, `strict` or not."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    schema: AnswerSchema
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(Struct, frozen=True, kw_only=True, tag_field="type", tag="json_schema"):
    """A JSON object that fits a schema, voted on property by property."""

    json_schema: JsonSchema


class Extension(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What Conclave takes besides OpenAI's fields."""

    max_samples: SampleCount | None = None
    max_tokens: TokenLimit | None = None
    quality: Quality | None = None
    priority: Priority | None = None
    deadline_s: DeadlineS = 600.0


class ChatBody(Struct, frozen=True, kw_only=True):
    """OpenAI's chat completion request. What is not listed here has no effect, and the answer says so."""

    WHY_NOT: ClassVar[Mapping[str, str]] = {
        "tools": "a client's tools are not called: a policy names those that its paths may call",
        "functions": "a client's functions are not called: a policy names the tools that its paths may call",
        "logprobs": "an answer is a vote of many paths, and has no log probabilities; its confidence is in `conclave`",
    }

    model: Annotated[str, Meta(max_length=80)]
    messages: Annotated[tuple[Message, ...], Meta(min_length=1, max_length=256)]
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES, description="each is a vote of its own")] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    metadata: Tags | None = None
    prompt_cache_key: Annotated[
        Label | None,
        Meta(description="what all turns of a conversation have in common; default: how its messages begin"),
    ] = None
    service_tier: Annotated[
        Literal["auto", "default", "flex", "priority"] | None,
        Meta(description="flex: priority batch, priority: interactive, others: standard"),
    ] = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    tools: Annotated[tuple[Any, ...], Meta(max_length=0)] | None = None
    functions: Annotated[tuple[Any, ...], Meta(max_length=0)] | None = None
    logprobs: Literal[False] | None = None
    conclave: Extension = Extension()


class ChatExtension(Struct, frozen=True, kw_only=True):
    """What an answer of Conclave tells besides OpenAI's fields: the vote, by choice."""

    results: tuple[Result, ...] = ()
    ignored: tuple[str, ...] = ()  # fields of the request that had no effect


class ChoiceMessage(Struct, frozen=True, kw_only=True):
    """What a choice says."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class Choice(Struct, frozen=True, kw_only=True):
    """An answer."""

    index: int
    message: ChoiceMessage
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens, over all paths of all choices."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """OpenAI's chat completion."""

    id: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: Usage
    conclave: ChatExtension
    object: Literal["chat.completion"] = "chat.completion"


Window = Literal["1h", "4h", "24h"]


class BatchBody(Struct, frozen=True, kw_only=True):
    """OpenAI's request for a batch."""

    input_file_id: Label
    endpoint: Literal["/v1/chat/completions"]
    completion_window: Window
    metadata: Tags | None = None


class BatchCounts(Struct, frozen=True, kw_only=True):
    """How many requests of a batch there are, were answered, and failed."""

    total: int
    completed: int
    failed: int


class Batch(Struct, frozen=True, kw_only=True):
    """OpenAI's batch. Its output files grow while it runs: partial results are in them already."""

    id: str
    endpoint: str = "/v1/chat/completions"
    input_file_id: str
    completion_window: str
    status: Literal["in_progress", "completed", "cancelling", "cancelled", "expired"]
    output_file_id: str
    error_file_id: str
    created_at: int
    expires_at: int
    cancelling_at: int | None
    expired_at: int | None = None
    request_counts: BatchCounts
    metadata: dict[str, str]
    errors: None = None
    object: Literal["batch"] = "batch"


class Batches(Struct, frozen=True, kw_only=True):
    """A tenant's latest batches."""

    data: tuple[Batch, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: Literal["list"] = "list"


class File(Struct, frozen=True, kw_only=True):
    """OpenAI's file."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["batch", "user_data", "batch_output"]
    status: Literal["processed"] = "processed"
    object: Literal["file"] = "file"


class Files(Struct, frozen=True, kw_only=True):
    """What a tenant has uploaded. Output files are named by their batches."""

    data: tuple[File, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: Literal["list"] = "list"


class FileDeleted(Struct, frozen=True, kw_only=True):
    """The file is gone."""

    id: str
    deleted: Literal[True] = True
    object: Literal["file"] = "file"


class BatchLine(Struct, frozen=True, kw_only=True):
    """A line of a file of requests."""

    custom_id: Annotated[Label, Meta(min_length=1)]
    method: Literal["POST"]
    url: Literal["/v1/chat/completions"]
    body: ChatBody


class Model(Struct, frozen=True, kw_only=True):
    """A policy, as OpenAI's clients see a model."""

    id: str
    created: int = 0
    object: Literal["model"] = "model"
    owned_by: str = "conclave"


class Models(Struct, frozen=True, kw_only=True):
    """All of them."""

    data: tuple[Model, ...]
    object: Literal["list"] = "list"
