"""One path on vLLM: how it is asked for, heard as it is generated, ended before its end, and what it is in the end."""

import asyncio
import contextlib
import uuid
from dataclasses import dataclass, field
from typing import ClassVar

from vllm import SamplingParams
from vllm.inputs import TokensPrompt
from vllm.logprobs import FlatLogprobs
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from conclave.domain.path_watch import BrokenOff
from conclave.engine.protocol import Decoded, DecodeRequest
from conclave.engine.vllm.words import Words
from schemas.values import FinishReason

_FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "abort": FinishReason.ABORT,
}  # "repetition", which vLLM knows too, ends no path with an answer
_ASK_AGAIN_S = 0.02


def params_of(request: DecodeRequest, schema: str, *, room: int, can_read: bool) -> SamplingParams:
    """What a request asks for. `schema`: that the answer is held to, or none; `room`: tokens that the model has left for it.

    With `can_read`, a path whose text nobody needs before its end comes as tokens alone, for `Words` to read.
    """
    watch = request.watch
    return SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=min(request.max_tokens, room, request.chunk_tokens or room),
        stop=list(request.stop) or None,
        structured_outputs=StructuredOutputsParams(json=schema) if schema else None,
        logprobs=0,  # of the sampled tokens; no per-request seed: with logprobs it can kill the CPU engine
        detokenize=not can_read or bool(request.stop) or watch is not None,
        flat_logprobs=True,  # two lists a path, where there were a dictionary and an object for each token
        output_kind=RequestOutputKind.FINAL_ONLY if watch is None else RequestOutputKind.DELTA,
        stream_interval=None if watch is None else watch.tokens_at_a_time,
    )


@dataclass(slots=True)
class Heard:
    """What has come of a path: in one output, or of a watched one in several, each with what is new."""

    output: RequestOutput | None = None  # the latest
    texts: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    aborted: BrokenOff | None = None
    is_cut: bool = False

    def take(self, output: RequestOutput) -> tuple[str, list[float]]:
        """The text and log probabilities in an output. vLLM goes on writing in its lists: what counts is copied."""
        self.output = output
        if not output.outputs:
            return "", []
        path = output.outputs[0]
        drawn = path.logprobs or FlatLogprobs()  # of each token its own, as no others are asked for
        # A token that was drawn against all odds has -inf; the record holds finite numbers.
        logprobs = [min(0.0, max(-100.0, each)) for each in drawn.logprobs]
        self.texts.append(path.text)
        self.logprobs += logprobs
        self.pieces += [each or "" for each in drawn.decoded_tokens]
        self.token_ids += path.token_ids
        return path.text, logprobs

    def read_by(self, words: Words) -> None:
        """Has its tokens read, which came without text."""
        if self.output is None or not self.token_ids:
            return
        is_stopped = self.output.outputs[0].finish_reason == "stop"
        text, self.pieces = words.read(self.output.prompt_token_ids or [], self.token_ids, is_stopped=is_stopped)
        self.texts = [text]

    @property
    def has_ended(self) -> bool:
        """True once the path has come to its end by itself."""
        return self.output is not None and self.output.finished


async def generated(llm: AsyncLLM, tokens: list[int], params: SamplingParams, request: DecodeRequest) -> Heard:
    """All that came of a request, and why it ended before its end if it did."""
    heard, watch, cut, request_id = Heard(), request.watch, request.cut, uuid.uuid4().hex
    ending = _Ending(llm, request_id)
    try:
        if cut is not None:
            cut.tell(ending.start)
        # Leaving the generator early (a cancelled task, a path that its watch breaks off) aborts the request in the engine.
        async with contextlib.aclosing(
            llm.generate(TokensPrompt(prompt_token_ids=tokens), params, request_id)
        ) as outputs:
            async for latest in outputs:
                text, logprobs = heard.take(latest)
                if watch is not None and not heard.has_ended and (why := watch.feed(text, logprobs)) is not None:
                    heard.aborted = why
                    break
    finally:
        if cut is not None:
            cut.tell(None)
        ending.stop()
    is_aborted = (
        heard.output is not None and bool(heard.output.outputs) and heard.output.outputs[0].finish_reason == "abort"
    )
    heard.is_cut = is_aborted and heard.aborted is None and cut is not None and cut.is_asked
    return heard


class _Ending:
    """Has vLLM end a request with what there is of it: its last output is as of one that has come to its end."""

    _asking: ClassVar[set[asyncio.Task[None]]] = set()

    def __init__(self, llm: AsyncLLM, request_id: str) -> None:
        self._llm, self._request_id, self._is_over = llm, request_id, False

    def start(self) -> None:
        """Begins to ask for it."""
        task = asyncio.create_task(self._ask(), name="cut path")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def stop(self) -> None:
        """There is nothing more to ask for. What was asked for is told to the engine core all the same."""
        self._is_over = True

    async def _ask(self) -> None:
        with contextlib.suppress(EngineDeadError):
            while not self._is_over:  # one that vLLM has not taken in yet is unknown to it
                await self._llm.abort(self._request_id)
                await asyncio.sleep(_ASK_AGAIN_S)


def is_at_chunk_end(heard: Heard, params: SamplingParams, request: DecodeRequest) -> bool:
    """True for a path that was cut because its chunk was full, and may be longer."""
    assert heard.output is not None
    most = params.max_tokens or 0
    is_full = heard.output.outputs[0].finish_reason == "length" and len(heard.token_ids) == most
    return is_full and most == request.chunk_tokens < request.max_tokens


def decoded(heard: Heard, *, total_ms: float) -> Decoded:
    """The path that was heard to its end, or as far as it came."""
    assert heard.output is not None
    path, stats, logprobs = heard.output.outputs[0], heard.output.metrics, heard.logprobs
    ended = _FINISH_REASONS.get(path.finish_reason, FinishReason.NONE)
    return Decoded(
        text="".join(heard.texts),
        finish_reason=ended if heard.aborted is None else FinishReason.ABORT,
        tokens_in=len(heard.output.prompt_token_ids or ()),
        tokens_out=len(heard.token_ids),
        mean_logprob=sum(logprobs) / len(logprobs) if logprobs else None,
        min_logprob=min(logprobs, default=None),
        queued_ms=max(0.0, (stats.scheduled_ts - stats.queued_ts) * 1000) if stats else 0.0,
        first_token_ms=max(0.0, stats.first_token_latency * 1000) if stats else total_ms,
        total_ms=total_ms,
        token_logprobs=tuple(logprobs),
        token_texts=tuple(heard.pieces),
        aborted=heard.aborted,
        is_cut=heard.is_cut,
        token_ids=tuple(heard.token_ids) if heard.is_cut else (),
        tokens_cached=heard.output.num_cached_tokens,
    )
