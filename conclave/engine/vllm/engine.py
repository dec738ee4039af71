"""vLLM's AsyncLLM in this process (its engine core in a child).

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
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import structlog
from vllm.config import StructuredOutputsConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.metrics.loggers import StatLoggerBase

from conclave.engine.cpu_threads import bound_cores, openmp_on
from conclave.engine.protocol import Decoded, DecodeRequest, EngineLoad, EngineLost, PromptTooLong
from conclave.engine.pulse import Pulse
from conclave.engine.trouble import Trouble, TroubleKind, TroubleListener, ignore
from conclave.engine.vllm import IS_CPU
from conclave.engine.vllm.path import decoded, generated, is_at_chunk_end, params_of
from conclave.engine.vllm.prompts import Prompts
from conclave.engine.vllm.words import Words

_STOP_LIMIT_S = 10.0
_REMEMBERED_SCHEMAS = 256
_GRAMMARS = "guidance"
_STEPS_OF_SHORT_PATHS = 32  # so of 64 that run no more than two end in one step

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
        self._prompts: Prompts | None = None
        self._words: Words | None = None
        self._limit = 0
        self._load = EngineLoad(0, 0, 0.0)
        self._restarting: asyncio.Task[None] | None = None
        self._hear: TroubleListener = ignore
        self._unheld: OrderedDict[str, None] = OrderedDict()  # schemas that it could not hold an answer to

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
        """As set, which is vLLM's max_num_seqs, and as many more as end in a step: vLLM replaces one that ends only by what waits
        in its own queue by then, and we hear of it a step later."""
        return self._max_running + max(1, self._max_running // _STEPS_OF_SHORT_PATHS)

    def load(self) -> EngineLoad:
        """As of the engine core's latest step."""
        return self._load

    def trouble(self) -> Trouble | None:
        """That the engine core is being started again."""
        return (
            Trouble(TroubleKind.AWAY, "the engine core died and is being started again") if self._restarting else None
        )

    async def start(self, hear: TroubleListener = ignore) -> None:
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
        tokenizer = llm.get_tokenizer()
        self._prompts, self._words = Prompts(tokenizer, self.model), Words(tokenizer)
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
        assert self._prompts is not None, "an engine that is alive has been started"
        tokens = self._prompts.tokens_of(request)
        if len(tokens) >= self._limit:
            raise PromptTooLong(len(tokens), self._limit - 1)
        schema = "" if request.json_schema in self._unheld else request.json_schema
        assert self._words is not None, "an engine that is alive has been started"
        params = params_of(request, schema, room=self._limit - len(tokens), can_read=self._words.is_able)
        started = time.perf_counter()
        try:
            with self._pulse.waiting(time.monotonic()):
                heard = await generated(llm, tokens, params, request)
        except EngineDeadError as error:
            self._restart()
            raise EngineLost("the engine core died") from error
        except (ValueError, VLLMClientError) as error:
            if not schema:
                raise
            return await self._unheld_from_now_on(request, str(error))
        if heard.output is None or not heard.output.outputs:
            raise EngineLost("the engine ended a request without output")
        if not params.detokenize:
            heard.read_by(self._words)
        if heard.output.outputs[0].finish_reason == "error":
            if schema:
                return await self._unheld_from_now_on(request, "its grammar could not be compiled")
            raise EngineLost("the engine failed while decoding it")
        if heard.output.finished and is_at_chunk_end(heard, params, request):
            heard.is_cut = True
        return decoded(heard, total_ms=(time.perf_counter() - started) * 1000)

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
