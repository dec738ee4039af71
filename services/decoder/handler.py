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
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from conclave import prompts
from conclave.domain.programs import End
from conclave.engine.admission import Admission
from conclave.engine.protocol import (
    CannotGoOn,
    ContentFiltered,
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
from schemas.values import PathFailure, Progress
from services.decoder import ends
from services.decoder.deadlines import StepDeadline
from services.decoder.rollout import Rollout, Room

_REMEMBERED_STEPS = 100_000
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
        self._decoding: dict[str, StepDeadline] = {}
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
        deadline = self._decoding.get(event.step_id)
        if deadline is not None:
            deadline.end_now()

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        """The one terminal event of a sample, after the chunks of a text that is too long for it; or the rest of it, handed on.

        Raises: PutBack for one that had not begun when `drain` was called.
        """
        assert isinstance(event, SampleRequested)
        started = time.perf_counter()
        left_s = (event.context.deadline_ms - arrival.now_ms) / 1000
        if self._closed and event.context.step_id in self._closed:
            return [ends.failed(event, PathFailure.CANCELLED, "its step was decided before it started", started)]
        if left_s <= 0:
            return [ends.failed(event, PathFailure.DEADLINE, "its deadline had passed before it started", started)]
        try:
            path = await self._path(event)
        except UnknownPrompt as error:
            return [ends.failed(event, PathFailure.BAD_PROMPT, str(error), started)]
        self._under_way.add(path)
        try:
            end = await self._decode(event, path, left_s, started)
        finally:
            self._under_way.discard(path)
            path.cut.is_over = True
        return ends.with_long_text(end, path) if isinstance(end, PathDecoded) else [end]

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
        return [
            ends.failed(event, PathFailure.ENGINE, f"given up ({cause.reason}): {cause.message}", time.perf_counter())
        ]

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """Nothing: what launches samples has read each of them back before."""
        return []

    async def _decode(
        self, event: SampleRequested, path: Rollout, left_s: float, started: float
    ) -> PathDecoded | PathFailed | SampleRequested:
        try:
            end = await self._cancellable(path, left_s)
        except UnknownPrompt as error:
            return ends.failed(event, PathFailure.BAD_PROMPT, str(error), started, path)
        except PathFault as fault:
            return ends.failed(event, FAULTS[type(fault)], str(fault), started, path)
        except TimeoutError:
            if path.step_id in self._closed:
                return ends.failed(event, PathFailure.CANCELLED, "its step was decided without it", started, path)
            trouble = self._engine.trouble()
            why = "" if trouble is None else f": {trouble}"
            return ends.failed(
                event, PathFailure.DEADLINE, f"not decoded within its last {left_s:.1f} s{why}", started, path
            )
        except EngineLost as error:
            message = f"the engine was lost {_MAX_LOSSES} times while decoding it: {error.why}"
            return ends.failed(event, PathFailure.ENGINE, message, started, path)
        if isinstance(end, Progress):
            return replace(event, progress=end)
        spoken = tuple(path.decoded.values())
        if ends.is_wordless(spoken):
            return ends.without_a_word(event, spoken[-1], started, path)
        ended = ends.decoded(event, path, end, self._engine, load=self._load())
        self._room.siblings.note(ended)
        return ended

    def _load(self) -> float:
        """How full the engine is, 0 to 1: full while any path waits for its turn."""
        load = self._engine.load()
        is_full = self._admission.num_waiting > 0 or load.waiting > 0
        return 1.0 if is_full else min(1.0, max(0.0, load.running / max(1, self._engine.max_running)))

    async def _cancellable(self, path: Rollout, left_s: float) -> End | Progress:
        """What the path comes to. Raises: TimeoutError at its deadline, which is now once its step is closed."""
        deadline = self._decoding.get(path.step_id)
        if deadline is None:
            deadline = self._decoding[path.step_id] = StepDeadline(left_s)
        try:
            async with deadline.of_one() as one:
                deadline.add(one)
                return await self._until_ended(path)
        finally:
            if deadline.remove(one):
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
