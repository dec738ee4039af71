"""Any OpenAI-compatible server, by chat completions; `vllm serve` is one."""

import re
import time
from collections.abc import Iterable
from typing import cast

from openai import (
    APIConnectionError,
    APIStatusError,
    AsyncOpenAI,
    BadRequestError,
    InternalServerError,
    RateLimitError,
    omit,
)
from openai.types.chat import ChatCompletionMessageParam

from conclave.engine.protocol import Decoded, DecodeRequest, EngineLoad, EngineLost, PromptTooLong
from conclave.errors import Retryable
from schemas.values import FinishReason

_TOO_LONG = ("maximum context length", "context_length_exceeded", "too long", "max_model_len")


class OpenAIEngine:
    """Streams each completion, so that a cancelled one is aborted on the server and the first token's time is known."""

    def __init__(self, model: str, base_url: str, *, api_key: str = "", max_running: int = 64) -> None:
        self._model, self._max_running = model, max_running
        self._client = AsyncOpenAI(base_url=base_url, api_key=api_key or "none", max_retries=0)
        self._running = 0

    @property
    def name(self) -> str:
        """Always `openai`."""
        return "openai"

    @property
    def model(self) -> str:
        """The model's name on the server."""
        return self._model

    @property
    def max_running(self) -> int:
        """As set: the server's own limit is not known."""
        return self._max_running

    async def start(self) -> None:
        """Asks the server for its models once; a server that is away is waited for by the decodes."""

    async def stop(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def load(self) -> EngineLoad:
        """What this client has under way."""
        return EngineLoad(self._running, 0, 0.0)

    async def decode(self, request: DecodeRequest) -> Decoded:
        """One path. Raises: PromptTooLong, EngineLost; Retryable when the server is too busy."""
        self._running += 1
        try:
            return await self._stream(request)
        except BadRequestError as error:
            if any(each in str(error).lower() for each in _TOO_LONG):
                raise _too_long(str(error)) from error
            raise Retryable("the model server", str(error)[:500]) from error
        except (APIConnectionError, InternalServerError) as error:
            raise EngineLost(str(error)[:500]) from error
        except (RateLimitError, APIStatusError) as error:
            raise Retryable("the model server", str(error)[:500]) from error
        finally:
            self._running -= 1

    async def _stream(self, request: DecodeRequest) -> Decoded:
        started = time.perf_counter()
        first_token_ms: float | None = None
        texts: list[str] = []
        logprobs: list[float] = []
        finish, tokens_in, tokens_out = FinishReason.STOP, 0, 0
        messages = [cast(ChatCompletionMessageParam, {"role": m.role, "content": m.content}) for m in request.messages]
        stream = await self._client.chat.completions.create(
            model=self._model,
            messages=messages,
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=request.max_tokens,
            stop=list(request.stop) or omit,
            logprobs=True,
            stream=True,
            stream_options={"include_usage": True},
        )
        async with stream:
            async for chunk in stream:
                if chunk.usage is not None:
                    tokens_in, tokens_out = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
                for choice in chunk.choices:
                    if choice.delta.content:
                        first_token_ms = first_token_ms or (time.perf_counter() - started) * 1000
                        texts.append(choice.delta.content)
                    if choice.logprobs is not None:
                        logprobs += _finite(entry.logprob for entry in choice.logprobs.content or ())
                    if choice.finish_reason == "length":
                        finish = FinishReason.LENGTH
        total_ms = (time.perf_counter() - started) * 1000
        return Decoded(
            text="".join(texts),
            finish_reason=finish,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            mean_logprob=sum(logprobs) / len(logprobs) if logprobs else None,
            min_logprob=min(logprobs, default=None),
            queued_ms=0.0,  # the server does not say
            first_token_ms=total_ms if first_token_ms is None else first_token_ms,
            total_ms=total_ms,
        )


def _too_long(message: str) -> PromptTooLong:
    """The error with the lengths that servers state, in whatever words: the limit is the smaller number, 0 if unknown."""
    numbers = sorted({int(each) for each in re.findall(r"\d{2,9}", message.split(" - ")[-1])})
    return PromptTooLong(numbers[-1], numbers[0]) if len(numbers) >= 2 else PromptTooLong(0, 0)


def _finite(logprobs: Iterable[float]) -> list[float]:
    return [min(0.0, max(-100.0, each)) for each in logprobs]
