"""The path that a chat completion comes to."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from conclave.engine.chat_stream import Chat
from conclave.engine.protocol import ContentFiltered, Decoded, DecodeRequest
from conclave.engine.server_errors import ServerError
from schemas.values import FinishReason

FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "safety": FinishReason.CONTENT_FILTER,
    "abort": FinishReason.ABORT,
    "aborted": FinishReason.ABORT,
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one call: a chat that has ended, or an error."""

    chat: Chat
    queued_ms: float
    first_token_ms: float | None
    error: ServerError | None


def decoded_of(attempt: Attempt, started: float) -> Decoded:
    """The path of a chat that has ended. Raises: ContentFiltered when the model refuses."""
    chat = attempt.chat
    total_ms = (time.perf_counter() - started) * 1000
    if chat.refusals and not chat.texts:
        raise ContentFiltered("the model refuses: " + "".join(chat.refusals))
    return Decoded(
        text=chat.text,
        reasoning=chat.thought,
        finish_reason=finish_reason_of(chat),
        tokens_in=chat.tokens_in,
        # Of a path that was broken off the server does not say what it cost.
        tokens_out=len(chat.logprobs) or None if chat.aborted is not None or chat.is_cut else chat.tokens_out,
        mean_logprob=math.fsum(chat.logprobs) / len(chat.logprobs) if chat.logprobs else None,
        min_logprob=min(chat.logprobs, default=None),
        queued_ms=attempt.queued_ms,
        first_token_ms=total_ms if attempt.first_token_ms is None else attempt.first_token_ms,
        total_ms=total_ms,
        token_logprobs=tuple(chat.logprobs),
        token_texts=tuple(chat.pieces),
        aborted=chat.aborted,
        is_cut=chat.is_cut,
        tokens_cached=chat.tokens_cached,
    )


def is_full(decoded: Decoded, asked: DecodeRequest, request: DecodeRequest) -> bool:
    """True for a path that has come to the end of its chunk and not to its own."""
    is_at_limit = decoded.finish_reason is FinishReason.LENGTH and asked.max_tokens < request.max_tokens
    return is_at_limit and (decoded.tokens_out is None or decoded.tokens_out >= asked.max_tokens)


def finish_reason_of(chat: Chat) -> FinishReason:
    """Why generation ended. A stream that is ended by [DONE] and names no reason has come to its end by itself."""
    if chat.finish_reason is None:
        return FinishReason.STOP
    return FINISH_REASONS.get(chat.finish_reason.lower(), FinishReason.NONE)
