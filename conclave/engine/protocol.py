"""What an engine is asked, what it answers, and how it fails."""

from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from conclave.domain.path_watch import BrokenOff, Watch
from conclave.engine.cut import Cut, Prefix
from conclave.engine.trouble import Trouble, TroubleListener, ignore
from conclave.errors import ConclaveError, LostDependency
from conclave.prompts import Message
from schemas.values import FinishReason


class DecodeRequest(Struct, frozen=True):
    """One turn of a path to decode. Messages whose last one is the assistant's are gone on from; only what is new is decoded.

    `sample_id` is for logs and for engines that must be repeatable; it seeds nothing in a model. A turn that was cut has a
    `prefix`, what was decoded of it before: it follows the messages, and `max_tokens` is what is left.
    """

    sample_id: str
    messages: tuple[Message, ...]
    stop: tuple[str, ...] = ()
    temperature: float = 0.8
    top_p: float = 1.0
    max_tokens: int = 256
    json_schema: str = ""  # that what is said has to fit, as far as the engine can see to it; "": none
    watch: Watch | None = None  # fed while it is decoded; ends it where it says so
    prefix: Prefix | None = None
    chunk_tokens: int = 0  # it may be cut after so many; 0: it need not be
    cut: Cut | None = None  # it is cut as soon as that is asked for

    def in_words(self) -> "DecodeRequest":
        """The same for an engine that knows texts only: the prefix stands in the messages."""
        if self.prefix is None:
            return self
        *before, last = self.messages
        if last.role != "assistant":
            before, last = [*before, last], Message("assistant", "")
        said = Message("assistant", last.content + self.prefix.text)
        return replace(self, messages=(*before, said) if said.content else tuple(before), prefix=None)


class Decoded(Struct, frozen=True):
    """One decoded path, with what it cost; None where the engine does not say. Log probabilities are of the generated tokens,
    natural. `reasoning` is what the engine told apart from the text as the model's thought."""

    text: str
    finish_reason: FinishReason
    tokens_in: int | None
    tokens_out: int | None
    mean_logprob: float | None
    min_logprob: float | None
    queued_ms: float
    first_token_ms: float
    total_ms: float
    reasoning: str = ""
    token_logprobs: tuple[float, ...] = ()  # of every generated token, where the engine says them
    token_texts: tuple[str, ...] = ()  # of the same tokens: what is said, and maybe more around it
    aborted: BrokenOff | None = None  # why its watch has ended it; then this is as much as there was by then
    is_cut: bool = False  # there is more to come: asked again with this for a prefix, it goes on
    token_ids: tuple[int, ...] = ()  # of a path that is cut, where the engine can go on from them
    tokens_cached: int | None = None  # of tokens_in, those that were in the engine's KV cache already


class EngineLoad(Struct, frozen=True):
    """How busy an engine is. `kv_cache_use` is a share, 0 to 1; `preemptions` are all since it was started."""

    running: int
    waiting: int
    kv_cache_use: float
    preemptions: int = 0


class EngineLost(LostDependency):
    """The engine died while it decoded this path; it is being restarted. The sample is to be decoded again."""

    def __init__(self, why: str) -> None:
        super().__init__("engine", why)


class PathFault(ConclaveError):
    """Why this path can't be decoded, however often it is tried. The engine is well."""


@dataclass(eq=False)
class PromptTooLong(PathFault):
    """A prompt that the model has no room for, in tokens; None where a server gave no figure, and `said` what it said.

    `answer` is what was asked for besides the prompt, where only both together are too long.
    """

    num_tokens: int | None
    limit: int | None
    answer: int | None = None
    said: str = ""

    def __str__(self) -> str:
        if self.limit is None:
            return f"the prompt is longer than the model takes: {self.said}"
        if self.num_tokens is None:
            return f"the prompt is longer than the model takes, {self.limit} tokens with its answer: {self.said}"
        if self.answer and self.num_tokens < self.limit:
            both = f"{self.num_tokens} tokens and an answer of up to {self.answer} are {self.num_tokens + self.answer}"
            return f"the prompt's {both}; the model takes {self.limit}"
        return f"the prompt has {self.num_tokens} tokens; the model takes {self.limit} with at least one of answer"


@dataclass(eq=False)
class RequestRefused(PathFault):
    """A path that the server will not take as it is asked for, and nobody knows how else to ask."""

    said: str

    def __str__(self) -> str:
        return f"the model server refuses it: {self.said}"


@dataclass(eq=False)
class CannotGoOn(PathFault):
    """A path that calls tools, on a server that is not known to go on from what was said."""

    known: tuple[str, ...]

    def __str__(self) -> str:
        return (
            "the model server is not known to go on from what a path has said, as paths with tools must; "
            f"if it is one of {', '.join(self.known)}, say so by CONCLAVE_OPENAI_SERVER"
        )


@dataclass(eq=False)
class ContentFiltered(PathFault):
    """A path that a content filter, or the model itself, refuses."""

    said: str

    def __str__(self) -> str:
        return self.said


class Engine(Protocol):
    """Decodes paths, many at a time. Cancelling a `decode` frees what it held in the engine."""

    @property
    def name(self) -> str:
        """What kind of engine it is."""
        ...

    @property
    def model(self) -> str:
        """Which model it runs, for the record."""
        ...

    @property
    def max_running(self) -> int:
        """So many sequences it runs at once."""
        ...

    async def start(self, hear: TroubleListener = ignore) -> None:
        """Returns once paths can be decoded, or once `hear` has been told why not. What comes later is told to it too."""
        ...

    async def stop(self) -> None:
        """Lets go of everything, within bounded time."""
        ...

    async def decode(self, request: DecodeRequest) -> Decoded:
        """One path, however long it takes: what will pass is waited out. Raises: PathFault; EngineLost when it died over it.

        An engine that can't go on from a prefix cuts nothing, and decodes to the end.
        """
        ...

    def trouble(self) -> Trouble | None:
        """What keeps it from decoding now; None when nothing does."""
        ...

    def load(self) -> EngineLoad:
        """How busy it is, as last heard."""
        ...
