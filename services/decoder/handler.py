"""A sample in, exactly one terminal event out: the path, or why there is none.

    1. closed, or past its deadline    PathFailed at once
    2. its prompt can't be rendered    PathFailed(bad_prompt)
    3. it waits for its turn           see conclave.engine.admission
    4. it is decoded                   PathDecoded; PathFailed(prompt_too_long), (cancelled), (deadline), (engine)
    5. it is given up                  PathFailed(engine)
A step closed meanwhile ends 3 and 4, and frees the engine.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence

from conclave import prompts
from conclave.engine.admission import Admission, Ticket
from conclave.engine.protocol import Decoded, DecodeRequest, Engine, EngineLost, PromptTooLong
from conclave.prompts import Form, PromptSet, Rendered, UnknownPrompt
from conclave.runtime.dead_letters import Cause
from conclave.runtime.handler import Arrival
from schemas.events import Event, PathDecoded, PathFailed, SampleRequested, StepClosed
from schemas.ids import path_id
from schemas.values import MAX_TEXT_CHARS, PathFailure

_REMEMBERED_STEPS = 100_000
_MAX_ANSWER_CHARS = 4096
_MAX_LOSSES = 3


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
        self._losses: Counter[str] = Counter()

    def status(self) -> dict[str, object]:
        """What /ready says of the engine."""
        load = self._engine.load()
        return {
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
        """The one terminal event of a sample. Raises: EngineLost to have it decoded again once the engine is back."""
        assert isinstance(event, SampleRequested)
        started = time.perf_counter()
        left_s = (event.context.deadline_ms - arrival.now_ms) / 1000
        if event.context.step_id in self._closed:
            return [_failed(event, PathFailure.CANCELLED, "its step was decided before it started", started)]
        if left_s <= 0:
            return [_failed(event, PathFailure.DEADLINE, "its deadline had passed before it started", started)]
        try:
            form = prompts.load(event.context.policy.prompt_set, self._prompt_sets).form(event.context.policy.form)
            rendered = form.render(event.context.fields)
        except UnknownPrompt as error:
            return [_failed(event, PathFailure.BAD_PROMPT, str(error), started)]
        return [await self._decode(event, form, rendered, left_s, started)]

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """The sample's terminal event, whatever was the matter with it."""
        assert isinstance(event, SampleRequested)
        self._losses.pop(path_id(event.context.step_id, event.sample_index), None)
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
        except PromptTooLong as error:
            return _failed(event, PathFailure.PROMPT_TOO_LONG, str(error), started)
        except TimeoutError:
            return _failed(event, PathFailure.DEADLINE, f"not decoded within its last {left_s:.1f} s", started)
        except EngineLost as error:
            self._losses[sample_id] += error.why != "the engine is starting"
            if self._losses[sample_id] < _MAX_LOSSES:
                raise
            del self._losses[sample_id]
            return _failed(
                event, PathFailure.ENGINE, f"the engine was lost {_MAX_LOSSES} times while decoding it", started
            )
        except asyncio.CancelledError:
            # Our own task being cancelled (a partition lost, a shutdown) is not for the handler to turn into an event.
            task = asyncio.current_task()
            if event.context.step_id not in self._closed or (task is not None and task.cancelling()):
                raise
            return _failed(event, PathFailure.CANCELLED, "its step was decided without it", started)
        self._losses.pop(sample_id, None)
        return _path(event, form, decoded, self._engine)

    async def _cancellable(self, event: SampleRequested, request: DecodeRequest, left_s: float) -> Decoded:
        """The decoded path; ends early with CancelledError when the step is closed, TimeoutError at its deadline."""
        step = event.context.step_id
        task = asyncio.create_task(self._in_turn(step, request), name=request.sample_id)
        self._decoding.setdefault(step, set()).add(task)
        try:
            async with asyncio.timeout(left_s):
                return await task
        finally:
            tasks = self._decoding[step]
            tasks.discard(task)
            if not tasks:
                del self._decoding[step]

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
        policy = event.context.policy
        return DecodeRequest(
            sample_id=sample_id,
            messages=rendered.messages,
            stop=rendered.stop,
            temperature=policy.temperature,
            top_p=policy.top_p,
            max_tokens=policy.max_tokens,
        )


def storable(text: str) -> str:
    """The text as JSON and PostgreSQL can hold it: no NUL, no lone surrogates, within the schema's length."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_TEXT_CHARS]


def _path(event: SampleRequested, form: Form, decoded: Decoded, engine: Engine) -> PathDecoded:
    text = storable(decoded.text)
    answer = form.extract_answer(text)
    return PathDecoded(
        context=event.context,
        sample_index=event.sample_index,
        launched=event.launched,
        text=text,
        answer=answer if answer is not None and len(answer) <= _MAX_ANSWER_CHARS else None,
        finish_reason=decoded.finish_reason,
        tokens_in=decoded.tokens_in,
        tokens_out=decoded.tokens_out,
        mean_logprob=decoded.mean_logprob,
        min_logprob=decoded.min_logprob,
        queued_ms=decoded.queued_ms,
        first_token_ms=decoded.first_token_ms,
        total_ms=decoded.total_ms,
        model=engine.model,
        engine=engine.name,
    )


def _failed(event: SampleRequested, failure: PathFailure, message: str, started: float) -> PathFailed:
    return PathFailed(
        context=event.context,
        sample_index=event.sample_index,
        launched=event.launched,
        failure=failure,
        message=storable(message)[:4096],
        total_ms=(time.perf_counter() - started) * 1000,
    )
