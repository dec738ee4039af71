"""What an engine is asked, what it answers, and how it fails."""

from dataclasses import dataclass
from typing import Protocol

from conclave.errors import ConclaveError, LostDependency
from conclave.prompts import Message
from schemas.values import FinishReason


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """One turn of a path to decode. Messages whose last one is the assistant's are gone on from; only what is new is decoded.

    `sample_id` is for logs and for engines that must be repeatable; it seeds nothing in a model.
    """

    sample_id: str
    messages: tuple[Message, ...]
    stop: tuple[str, ...] = ()
    temperature: float = 0.8
    top_p: float = 1.0
    max_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded path, with what it cost. Log probabilities are of the generated tokens, natural, None if unknown."""

    text: str
    finish_reason: FinishReason
    tokens_in: int
    tokens_out: int
    mean_logprob: float | None
    min_logprob: float | None
    queued_ms: float
    first_token_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy an engine is. `kv_cache_use` is a share, 0 to 1."""

    running: int
    waiting: int
    kv_cache_use: float


class EngineLost(LostDependency):
    """The engine died or can't be reached; it is being restarted. The sample is to be decoded again."""

    def __init__(self, why: str) -> None:
        super().__init__("engine", why)


@dataclass(eq=False)
class PromptTooLong(ConclaveError):
    """A prompt that the model has no room for."""

    num_tokens: int
    limit: int

    def __str__(self) -> str:
        return f"the prompt has {self.num_tokens} tokens; the model takes {self.limit} with at least one of answer"


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

    async def start(self) -> None:
        """Returns once paths can be decoded."""
        ...

    async def stop(self) -> None:
        """Lets go of everything, within bounded time."""
        ...

    async def decode(self, request: DecodeRequest) -> Decoded:
        """One path. Raises: PromptTooLong, EngineLost."""
        ...

    def load(self) -> EngineLoad:
        """How busy it is, as last heard."""
        ...
