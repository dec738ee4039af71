"""A sample in, exactly one terminal event out: the path, or why there is none.

    1. closed, or past its deadline    PathFailed at once
    2. what asks for it is not there   PathFailed(bad_prompt): prompt set, program, form, field or tool
    3. it goes from turn to turn       see rollout.py; each waits for room in the engine
    4. it comes to its end             PathDecoded; PathFailed, by a fault of the path (FAULTS), or (engine)
       or to the end of its chunk      SampleRequested, with how far it has come: whoever reads it goes on from there
    5. it is given up                  PathFailed(engine)
A step closed meanwhile ends 3 wherever it is, and frees the engine. So does the deadline: until then a path waits for an engine
that is away, and no attempt is counted. While it is away nothing more is taken (`may_take`). A path over which the engine died
begins again where its record does: tools have no effect that would be repeated.

What is under way when the service ends is handed on in the same way, and before a rebalance that of policies with chunks
(`hand_on`). A hand-on is an outcome like any other: it is published in the transaction that completes its record, so a path has
one record that is open at any time, and one end.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from conclave import prompts
from conclave.domain import bounds, long_texts
from conclave.domain.programs import End
from conclave.domain.token_confidence import TokenConfidence, token_confidence
from conclave.engine.admission import Admission
from conclave.engine.protocol import (
    CannotGoOn,
    ContentFiltered,
    Decoded,
    Engine,
    EngineLost,
    PathFault,
    PromptTooLong,
    RequestRefused,
)
from conclave.prompts import PromptSet, UnknownPrompt
from conclave.runtime.dead_letters import Cause
from conclave.runtime.handler import Arrival
from conclave.tools.toolbox import Toolbox
from schemas.events import Event, PathDecoded, PathFailed, SampleRequested, StepClosed
from schemas.values import MAX_TEXT_CHARS, FinishReason, PathFailure, Progress
from services.decoder.handing_on import storable
from services.decoder.rollout import Rollout, Room

_REMEMBERED_STEPS = 100_000
_MAX_REASONING_BYTES = 393_216
_MAX_LOSSES = 3

FAULTS: Mapping[type[PathFault], PathFailure] = {
    PromptTooLong: PathFailure.PROMPT_TOO_LONG,
    RequestRefused: PathFailure.BAD_REQUEST,
    CannotGoOn: PathFailure.BAD_PROMPT,
    ContentFiltered: PathFailure.CONTENT_FILTERED,
}


class Decoder:
    """Handler of `reasoning.samples`, and listener to `reasoning.control`."""

    def __init__(
        self,
        engine: Engine,
        *,
        kv_cache_use_limit: float = 0.95,
        find_prompts: Callable[[str], PromptSet] = prompts.load,
        look_again: Callable[[], None] | None = None,
        toolbox: Toolbox | None = None,
        weights: Mapping[str, float] | None = None,
        min_running: int | None = None,
    ) -> None:
        """`weights`: of classes of priority, where they are not those of conclave.domain.priorities. With `min_running`, how many
        paths run at once follows the engine's pressure, from there to what the engine takes. `look_again`, in a thread, for prompts
        that `find_prompts` does not know."""
        self._engine, self._find_prompts, self._look_again = engine, find_prompts, look_again
        self._admission = Admission(
            engine.load,
            max_running=engine.max_running,
            kv_cache_use_limit=kv_cache_use_limit,
            weights=weights,
            min_running=min_running,
        )
        self._room = Room(engine, self._admission, toolbox or Toolbox())
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._decoding: dict[str, _StepsPaths] = {}
        self._under_way: set[Rollout] = set()

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
            "engine_limit": self._admission.limit,
            "engine_waiting": self._admission.num_waiting,
            "waiting_by_priority": dict(self._admission.num_waiting_of),
            "kv_cache_use": load.kv_cache_use,
        }

    def drain(self) -> None:
        """Begins no path any more. Those that wait to begin are put back, and read again by whoever takes their partition."""
        self._admission.close()

    def hand_on(self, is_last: bool) -> Callable[[], bool]:
        """Cuts what is under way, so that whoever takes its partition goes on from there; returns what tells whether that is done.

        `is_last`: all of it, as this process ends. Else its partitions may go to others, and may not: what is cut is only what has
        chunks, since all else would most often be cut for nothing.
        """
        asked = [path.cut for path in self._under_way if is_last or (path.is_in_chunks and path.is_begun)]
        for cut in asked:
            cut.ask()
        return lambda: all(cut.is_over for cut in asked)

    def hear(self, event: Event) -> None:
        """Ends what is still decoded for a closed step."""
        if not isinstance(event, StepClosed):
            return
        self._closed[event.step_id] = None
        while len(self._closed) > _REMEMBERED_STEPS:
            self._closed.popitem(last=False)
        paths = self._decoding.get(event.step_id)
        if paths is not None:
            paths.end_now()

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        """The one terminal event of a sample, after the chunks of a text that is too long for it; or the rest of it, handed on.

        Raises: PutBack for one that had not begun when `drain` was called.
        """
        assert isinstance(event, SampleRequested)
        started = time.perf_counter()
        left_s = (event.context.deadline_ms - arrival.now_ms) / 1000
        if self._closed and event.context.step_id in self._closed:
            return [_failed(event, PathFailure.CANCELLED, "its step was decided before it started", started)]
        if left_s <= 0:
            return [_failed(event, PathFailure.DEADLINE, "its deadline had passed before it started", started)]
        try:
            path = await self._path(event)
        except UnknownPrompt as error:
            return [_failed(event, PathFailure.BAD_PROMPT, str(error), started)]
        self._under_way.add(path)
        try:
            end = await self._decode(event, path, left_s, started)
        finally:
            self._under_way.discard(path)
            path.cut.is_over = True
        return _with_long_text(end, path) if isinstance(end, PathDecoded) else [end]

    async def _path(self, event: SampleRequested) -> Rollout:
        """The path, before its first turn. Raises: UnknownPrompt for what was not deployed a moment ago either."""
        try:
            return self._rollout(event)
        except UnknownPrompt:
            if self._look_again is None:
                raise
        await asyncio.to_thread(self._look_again)
        return self._rollout(event)

    def _rollout(self, event: SampleRequested) -> Rollout:
        prompt_set = self._find_prompts(event.context.prompt_set)
        return Rollout(self._room, prompt_set, event.context, event.sample_index, event.progress)

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """The sample's terminal event, whatever was the matter with it."""
        assert isinstance(event, SampleRequested)
        return [_failed(event, PathFailure.ENGINE, f"given up ({cause.reason}): {cause.message}", time.perf_counter())]

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """Nothing: what launches samples has read each of them back before."""
        return []

    async def _decode(
        self, event: SampleRequested, path: Rollout, left_s: float, started: float
    ) -> PathDecoded | PathFailed | SampleRequested:
        try:
            end = await self._cancellable(path, left_s)
        except UnknownPrompt as error:
            return _failed(event, PathFailure.BAD_PROMPT, str(error), started, path)
        except PathFault as fault:
            return _failed(event, FAULTS[type(fault)], str(fault), started, path)
        except TimeoutError:
            if path.step_id in self._closed:
                return _failed(event, PathFailure.CANCELLED, "its step was decided without it", started, path)
            trouble = self._engine.trouble()
            why = "" if trouble is None else f": {trouble}"
            return _failed(
                event, PathFailure.DEADLINE, f"not decoded within its last {left_s:.1f} s{why}", started, path
            )
        except EngineLost as error:
            message = f"the engine was lost {_MAX_LOSSES} times while decoding it: {error.why}"
            return _failed(event, PathFailure.ENGINE, message, started, path)
        if isinstance(end, Progress):
            return replace(event, progress=end)
        spoken = tuple(path.decoded.values())
        if _is_wordless(spoken):
            return _without_a_word(event, spoken[-1], started, path)
        ended = _decoded(event, path, end, self._engine, load=self._load())
        self._room.siblings.note(ended)
        return ended

    def _load(self) -> float:
        """How full the engine is, 0 to 1: full while any path waits for its turn."""
        load = self._engine.load()
        is_full = self._admission.num_waiting > 0 or load.waiting > 0
        return 1.0 if is_full else min(1.0, max(0.0, load.running / max(1, self._engine.max_running)))

    async def _cancellable(self, path: Rollout, left_s: float) -> End | Progress:
        """What the path comes to. Raises: TimeoutError at its deadline, which is now once its step is closed."""
        paths = self._decoding.get(path.step_id)
        if paths is None:
            paths = self._decoding[path.step_id] = _StepsPaths(left_s)
        try:
            async with asyncio.timeout(0.0 if paths.is_over else None) as deadline:
                paths.add(deadline)
                return await self._until_ended(path)
        finally:
            if paths.remove(deadline):
                del self._decoding[path.step_id]

    @staticmethod
    async def _until_ended(path: Rollout) -> End | Progress:
        """What the path comes to, begun again where the engine died over it. Raises: EngineLost at the third time."""
        for _ in range(_MAX_LOSSES - 1):
            try:
                return await path.run()
            except EngineLost:
                path.begin_again()
        return await path.run()


class _StepsPaths:
    """A step's paths that are being decoded. They have one deadline, so one timer: one each is a tenth of what a path costs."""

    def __init__(self, left_s: float) -> None:
        self.is_over = False
        self._deadlines: set[asyncio.Timeout] = set()
        self._timer = asyncio.get_running_loop().call_later(left_s, self.end_now)

    def add(self, deadline: asyncio.Timeout) -> None:
        """One more is decoded."""
        self._deadlines.add(deadline)

    def remove(self, deadline: asyncio.Timeout) -> bool:
        """One has ended. True when it was the last."""
        self._deadlines.discard(deadline)
        if not self._deadlines:
            self._timer.cancel()
        return not self._deadlines

    def end_now(self) -> None:
        """Has each end by TimeoutError, and whichever is still added."""
        self.is_over, now_s = True, asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(now_s)


def _decoded(event: SampleRequested, path: Rollout, end: End, engine: Engine, *, load: float) -> PathDecoded:
    """The path with its sums over all turns; log probabilities are those of the turn that gave the answer."""
    *before, last = path.turns
    answering, sure = path.decoded.get(end.turn), _token_confidence(path, end)
    whole = _together(tuple(path.decoded.values()))
    room = MAX_TEXT_CHARS - sum(len(turn.text) for turn in path.turns) if whole.reasoning else 0
    return PathDecoded(
        context=event.context,
        sample_index=event.sample_index,
        launched=event.launched,
        turns=tuple(before),
        form=last.form if before else None,
        text=last.text,
        answer=end.answer,
        probability=end.probability,
        finish_reason=whole.finish_reason,
        tokens_in=whole.tokens_in,
        tokens_out=whole.tokens_out,
        tokens_cached=whole.tokens_cached,
        mean_logprob=answering.mean_logprob if answering else None,
        min_logprob=answering.min_logprob if answering else None,
        waited_ms=path.waited_ms,
        queued_ms=whole.queued_ms,
        first_token_ms=whole.first_token_ms,
        total_ms=whole.total_ms,
        model=engine.model,
        engine=engine.name,
        answer_logprob=sure.answer,
        lowest_group_logprob=sure.lowest_group,
        tail_logprob=sure.tail,
        load=load,
        is_declined=end.answer is None and path.turns[end.turn].is_declined,
        reasoning=_storable_thought(whole.reasoning, room),
        num_handed_on=_num_handed_on(event),
    )


def _token_confidence(path: Rollout, end: End) -> TokenConfidence:
    """How sure the tokens were of the turn that gave the answer; nothing where its engine says nothing of them."""
    answering = path.decoded.get(end.turn)
    if answering is None:
        return token_confidence(())
    if (
        known := path.sure.get(end.turn)
    ) is not None:  # by the decoder that handed it on, of the answer that it read there
        return known if end.answer == path.turns[end.turn].answer else replace(known, answer=None)
    return token_confidence(answering.token_logprobs, answering.token_texts, text=answering.text, answer=end.answer)


def _together(spoken: Sequence[Decoded]) -> Decoded:
    """All turns as one: what they cost together, None where one's cost is unknown, and thoughts in a row. Most paths have one."""
    if len(spoken) == 1:
        return spoken[0]
    return Decoded(
        text="",
        finish_reason=spoken[-1].finish_reason if spoken else FinishReason.NONE,
        tokens_in=_total(each.tokens_in for each in spoken),
        tokens_out=_total(each.tokens_out for each in spoken),
        tokens_cached=_total(each.tokens_cached for each in spoken),
        mean_logprob=None,
        min_logprob=None,
        queued_ms=sum(each.queued_ms for each in spoken),
        first_token_ms=spoken[0].first_token_ms if spoken else 0.0,
        total_ms=sum(each.total_ms for each in spoken),
        reasoning="\n\n".join(each.reasoning for each in spoken if each.reasoning),
    )


def _total(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(each or 0 for each in known)


def _storable_thought(thought: str, room: int) -> str:
    """What the engine told apart as thoughts: with the texts no longer than a text, or its event, may be."""
    return bounds.beginning(storable(thought)[: max(0, room)], _MAX_REASONING_BYTES) if thought else ""


def _is_wordless(spoken: Sequence[Decoded]) -> bool:
    """True when the engine ended each turn without a word. A call of a tool that is not ours has none and is something."""
    if not spoken or spoken[-1].text or spoken[-1].finish_reason is FinishReason.TOOL_CALLS:
        return False
    return not any(each.text or each.reasoning for each in spoken)


def _without_a_word(event: SampleRequested, decoded: Decoded, started: float, path: Rollout) -> PathFailed:
    """The failure of a path of which nothing came; it has its cost all the same."""
    cost = " + ".join("unknown" if each is None else str(each) for each in (decoded.tokens_in, decoded.tokens_out))
    ended = f"no text, finish reason {decoded.finish_reason.value}, {cost} tokens"
    if decoded.finish_reason is FinishReason.CONTENT_FILTER:
        message = f"the server's content filter left nothing: {ended}"
        return _failed(event, PathFailure.CONTENT_FILTERED, message, started, path)
    speaker = "model said" if decoded.tokens_out else "server sent"
    return _failed(event, PathFailure.NOTHING_SENT, f"the {speaker} nothing: {ended}", started, path)


def _with_long_text(end: PathDecoded, path: Rollout) -> Sequence[Event]:
    """The path; what its last turn says goes before it in chunks if it is too long for the event, which keeps its end."""
    last = path.decoded.get(len(path.turns) - 1)
    whole = end.text if last is None else storable(last.text)
    if whole == end.text and not long_texts.is_long(whole):
        return [end]
    shown, where, chunks = long_texts.stored(end.context.request_id, whole)
    return [*chunks, replace(end, text=shown, long_text=where)]


def _failed(
    event: SampleRequested, failure: PathFailure, message: str, started: float, path: Rollout | None = None
) -> PathFailed:
    turn = f"in turn {len(path.turns) + 1}: " if path is not None and path.turns else ""
    spent = path or event.progress
    return PathFailed(
        context=event.context,
        sample_index=event.sample_index,
        launched=event.launched,
        failure=failure,
        message=storable(turn + message)[:4096],
        tokens_in=spent.tokens_in if spent is not None else 0,
        tokens_out=spent.tokens_out if spent is not None else 0,
        total_ms=(time.perf_counter() - started) * 1000,
        num_handed_on=_num_handed_on(event),
    )


def _num_handed_on(event: SampleRequested) -> int:
    return 0 if event.progress is None else event.progress.num_handed_on
