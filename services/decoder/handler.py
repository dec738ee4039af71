"""A sample in, exactly one terminal event out: the path, or why there is none.

    1. closed, or past its deadline    PathFailed at once
    2. its prompt can't be rendered    PathFailed(bad_prompt)
    3. it waits for its turn           see conclave.engine.admission
    4. it is decoded                   PathDecoded; PathFailed, by a fault of the path (FAULTS), or (engine)
    5. it is given up                  PathFailed(engine)
A step closed meanwhile ends 3 and 4, and frees the engine. So does the deadline: until then a path waits for an engine that is
away, and no attempt is counted. While it is away nothing more is taken (`may_take`).
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import assert_never

from msgspec.structs import replace

from conclave import prompts
from conclave.engine.admission import Admission, Ticket
from conclave.engine.protocol import (
    CannotGoOn,
    ContentFiltered,
    Decoded,
    DecodeRequest,
    Engine,
    EngineLost,
    NothingSent,
    PathFault,
    PromptTooLong,
    RequestRefused,
)
from conclave.prompts import Form, PromptSet, Rendered, UnknownPrompt
from conclave.runtime.dead_letters import Cause
from conclave.runtime.handler import Arrival
from schemas.events import Event, PathDecoded, PathFailed, SampleRequested, StepClosed
from schemas.ids import path_id
from schemas.values import MAX_TEXT_CHARS, FinishReason, PathFailure

_REMEMBERED_STEPS = 100_000
_MAX_ANSWER_CHARS = 4096
_MAX_CHARS_AT_ONCE = 4_096  # read within a few milliseconds, whatever they are
_MAX_LOSSES = 3

FAULTS: Mapping[type[PathFault], PathFailure] = {
    PromptTooLong: PathFailure.PROMPT_TOO_LONG,
    RequestRefused: PathFailure.BAD_REQUEST,
    CannotGoOn: PathFailure.BAD_PROMPT,
    ContentFiltered: PathFailure.CONTENT_FILTERED,
    NothingSent: PathFailure.NOTHING_SENT,
}


class Decoder:
    """Handler of `reasoning.samples`, and listener to `reasoning.control`."""

    def __init__(
        self,
        engine: Engine,
        *,
        kv_cache_use_limit: float = 0.95,
        prompt_sets: Mapping[str, PromptSet] | None = None,
    ) -> None:
        self._engine, self._prompt_sets = engine, prompt_sets
        self._admission = Admission(max_running=engine.max_running, kv_cache_use_limit=kv_cache_use_limit)
        self._turns: dict[Ticket, asyncio.Future[None]] = {}
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._decoding: dict[str, set[asyncio.Task[Decoded]]] = {}

    def may_take(self) -> bool:
        """False while the engine is away, barred or pausing: more samples could only wait here."""
        trouble = self._engine.trouble()
        return trouble is None or not trouble.keeps_from_taking

    def status(self) -> dict[str, object]:
        """What /ready says of the engine."""
        load, trouble = self._engine.load(), self._engine.trouble()
        return {
            "engine_trouble": None if trouble is None else str(trouble),
            "engine_running": load.running,
            "engine_waiting": self._admission.num_waiting,
            "kv_cache_use": load.kv_cache_use,
        }

    def hear(self, event: Event) -> None:
        """Ends what is still decoded for a closed step."""
        if not isinstance(event, StepClosed):
            return
        self._closed[event.step_id] = None
        while len(self._closed) > _REMEMBERED_STEPS:
            self._closed.popitem(last=False)
        for task in self._decoding.get(event.step_id, ()):
            task.cancel()

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        """The one terminal event of a sample."""
        assert isinstance(event, SampleRequested)
        started = time.perf_counter()
        left_s = (event.context.deadline_ms - arrival.now_ms) / 1000
        if event.context.step_id in self._closed:
            return [_failed(event, PathFailure.CANCELLED, "its step was decided before it started", started)]
        if left_s <= 0:
            return [_failed(event, PathFailure.DEADLINE, "its deadline had passed before it started", started)]
        try:
            form = prompts.load(event.context.prompt_set, self._prompt_sets).form(event.context.ask.form)
            rendered = form.render(event.context.step.fields)
        except UnknownPrompt as error:
            return [_failed(event, PathFailure.BAD_PROMPT, str(error), started)]
        return [await self._decode(event, form, rendered, left_s, started)]

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """The sample's terminal event, whatever was the matter with it."""
        assert isinstance(event, SampleRequested)
        return [_failed(event, PathFailure.ENGINE, f"given up ({cause.reason}): {cause.message}", time.perf_counter())]

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """Nothing: what launches samples has read each of them back before."""
        return []

    async def _decode(
        self, event: SampleRequested, form: Form, rendered: Rendered, left_s: float, started: float
    ) -> PathDecoded | PathFailed:
        sample_id = path_id(event.context.step_id, event.sample_index)
        try:
            decoded = await self._cancellable(event, self._request(event, rendered, sample_id), left_s)
        except PathFault as fault:
            return _faulty(event, fault, started)
        except TimeoutError:
            trouble = self._engine.trouble()
            why = "" if trouble is None else f": {trouble}"
            return _failed(event, PathFailure.DEADLINE, f"not decoded within its last {left_s:.1f} s{why}", started)
        except EngineLost as error:
            message = f"the engine was lost {_MAX_LOSSES} times while decoding it: {error.why}"
            return _failed(event, PathFailure.ENGINE, message, started)
        except asyncio.CancelledError:
            # Our own task being cancelled (a partition lost, a shutdown) is not for the handler to turn into an event.
            task = asyncio.current_task()
            if event.context.step_id not in self._closed or (task is not None and task.cancelling()):
                raise
            return _failed(event, PathFailure.CANCELLED, "its step was decided without it", started)
        return await _path(event, form, decoded, self._engine)

    async def _cancellable(self, event: SampleRequested, request: DecodeRequest, left_s: float) -> Decoded:
        """The decoded path; ends early with CancelledError when the step is closed, TimeoutError at its deadline."""
        step = event.context.step_id
        task = asyncio.create_task(self._until_decoded(step, request), name=request.sample_id)
        self._decoding.setdefault(step, set()).add(task)
        try:
            async with asyncio.timeout(left_s):
                return await task
        finally:
            tasks = self._decoding[step]
            tasks.discard(task)
            if not tasks:
                del self._decoding[step]

    async def _until_decoded(self, step: str, request: DecodeRequest) -> Decoded:
        """The path, decoded again where the engine died over it. Raises: EngineLost at the third time."""
        for _ in range(_MAX_LOSSES - 1):
            with contextlib.suppress(EngineLost):
                return await self._in_turn(step, request)
        return await self._in_turn(step, request)

    async def _in_turn(self, step: str, request: DecodeRequest) -> Decoded:
        ticket = self._admission.enter(step)
        turn = self._turns[ticket] = asyncio.get_running_loop().create_future()
        try:
            self._admit()
            await turn
        except asyncio.CancelledError:
            self._turns.pop(ticket, None)
            self._admission.leave(ticket)
            if turn.done() and not turn.cancelled():
                self._free()
            raise
        try:
            return await self._engine.decode(request)
        finally:
            self._free()

    def _free(self) -> None:
        self._admission.finished()
        self._admit()

    def _admit(self) -> None:
        while (ticket := self._admission.next(self._engine.load())) is not None:
            turn = self._turns.pop(ticket)
            if turn.cancelled():
                self._admission.finished()
            else:
                turn.set_result(None)

    @staticmethod
    def _request(event: SampleRequested, rendered: Rendered, sample_id: str) -> DecodeRequest:
        ask = event.context.ask
        return DecodeRequest(
            sample_id=sample_id,
            messages=rendered.messages,
            stop=rendered.stop,
            temperature=ask.temperature,
            top_p=ask.top_p,
            max_tokens=ask.max_tokens,
        )


def storable(text: str) -> str:
    """The text as JSON and PostgreSQL can hold it: no NUL, no lone surrogates, within the schema's length."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_TEXT_CHARS]


async def answer_in(form: Form, decoded: Decoded) -> str | None:
    """The answer that counts, in all of what was decoded: of a text that came to its end, or certainly whole before its cut.

    A long text is read in a thread, so that it stalls nobody.
    """
    match decoded.finish_reason:
        case FinishReason.STOP | FinishReason.LENGTH:
            is_cut = decoded.finish_reason is FinishReason.LENGTH
        case FinishReason.TOOL_CALLS | FinishReason.CONTENT_FILTER | FinishReason.ABORT | FinishReason.NONE:
            return None
        case _:
            assert_never(decoded.finish_reason)
    if len(decoded.text) <= _MAX_CHARS_AT_ONCE:
        answer = form.extract(decoded.text, is_cut=is_cut)
    else:
        answer = await asyncio.to_thread(form.extract, decoded.text, is_cut=is_cut)
    return storable(answer) if answer is not None and len(answer) <= _MAX_ANSWER_CHARS else None


async def _path(event: SampleRequested, form: Form, decoded: Decoded, engine: Engine) -> PathDecoded:
    answer = await answer_in(form, decoded)  # before the text is cut for storage: an answer stands at its end
    return PathDecoded(
        context=event.context,
        sample_index=event.sample_index,
        launched=event.launched,
        text=storable(decoded.text),
        answer=answer,
        finish_reason=decoded.finish_reason,
        tokens_in=decoded.tokens_in or 0,
        tokens_out=decoded.tokens_out or 0,
        mean_logprob=decoded.mean_logprob,
        min_logprob=decoded.min_logprob,
        queued_ms=decoded.queued_ms,
        first_token_ms=decoded.first_token_ms,
        total_ms=decoded.total_ms,
        model=engine.model,
        engine=engine.name,
    )


def _faulty(event: SampleRequested, fault: PathFault, started: float) -> PathFailed:
    """The failure of a path that is itself at fault, with what it cost all the same."""
    failed = _failed(event, FAULTS[type(fault)], str(fault), started)
    if isinstance(fault, NothingSent):
        return replace(failed, tokens_in=fault.tokens_in or 0, tokens_out=fault.tokens_out or 0)
    return failed


def _failed(event: SampleRequested, failure: PathFailure, message: str, started: float) -> PathFailed:
    return PathFailed(
        context=event.context,
        sample_index=event.sample_index,
        launched=event.launched,
        failure=failure,
        message=storable(message)[:4096],
        total_ms=(time.perf_counter() - started) * 1000,
    )
