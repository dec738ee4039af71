"""Turns of a path, and how far one has come."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.values.base import (
    MAX_CHUNKS,
    MAX_TURNS,
    Count,
    Digest,
    DurationMs,
    Label,
    LogProbability,
    Name,
    ShortText,
    Text,
)
from schemas.values.endings import FinishReason


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
