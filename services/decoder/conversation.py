"""A path as a conversation: its program says what comes next, engine and tools answer, until it ends.

    1. the program is asked, with the turns so far
    2. Speak: the form is filled in, waits for its turn on the engine, is decoded and read
       Call:  the tool answers, and the form says how that is put in
       End:   the path has ended
A turn that its watch breaks off (conclave.domain.path_watch) is the last and gives no answer; what was said by then stays. A path
whose next prompt the model has no room for, or whose texts together outgrow an event, has no turns left: its program ends it with
what there is.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import structlog
from msgspec.structs import replace
from prometheus_client import Counter

from conclave.domain import bounds
from conclave.domain.fair_queue import Flow
from conclave.domain.path_watch import Sibling, watch
from conclave.domain.programs import PROGRAMS, End, Program, Speak
from conclave.domain.programs.moves import num_spoken
from conclave.engine.admission import Admission
from conclave.engine.protocol import Decoded, DecodeRequest, Engine, PromptTooLong
from conclave.prompts import Form, PromptSet, Reading, UnknownPrompt
from conclave.tools.toolbox import Toolbox
from schemas.ids import path_id
from schemas.values import MAX_TEXT_CHARS, Ask, Call, FinishReason, StepContext, Turn
from services.decoder.siblings import Siblings

ABORTED = Counter("conclave_paths_aborted", "Paths broken off while they were decoded, by why", ("why",))
MAX_ANSWER_CHARS = 4096
_MAX_CHARS_AT_ONCE = 4_096  # read within a few milliseconds, whatever they are
MAX_TURNS_BYTES = 1_000_000  # of all turns of a path in its event, beside its step

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    """What conversations need: an engine with its waiting room, and tools."""

    engine: Engine
    admission: Admission
    toolbox: Toolbox
    siblings: Siblings = field(default_factory=Siblings)


class Conversation:
    """One path under way. What was said is there at any time, also when it is cut."""

    def __init__(self, room: Room, prompt_set: PromptSet, context: StepContext, sample_index: int) -> None:
        """Raises: UnknownPrompt when program, form or field is not there."""
        self._room, self._set, self._context = room, prompt_set, context
        self.sample_id = path_id(context.step_id, sample_index)
        self._program = _program(context.ask, prompt_set)
        prompt_set.form(context.ask.form).check(context.step.fields)
        self._flow = Flow(context.priority, context.tenant)
        self.waited_ms = 0.0  # for turns on the engine, whatever became of them
        self.begin_again()

    def begin_again(self) -> None:
        """Forgets all that was said."""
        self._ask: Ask = self._context.ask
        self._num_chars = self._num_bytes = 0
        self.turns: list[Turn] = []
        self.decoded: dict[int, Decoded] = {}  # by turn, of those that are the model's

    @property
    def tokens_in(self) -> int:
        """Of all prompts so far."""
        return sum(turn.tokens_in for turn in self.turns)

    @property
    def tokens_out(self) -> int:
        """Generated so far."""
        return sum(turn.tokens_out for turn in self.turns)

    async def run(self) -> End:
        """The end of the path. Raises: UnknownPrompt, PathFault, EngineLost."""
        while True:
            match self._next():
                case Speak() as speak:
                    await self._speak(speak)
                case Call() as call:
                    await self._call(call)
                case End() as end:
                    return end
                case move:
                    assert_never(move)

    def _next(self) -> Speak | Call | End:
        move = self._program.go_on(self._context.step.fields, self.turns, self._ask)
        may_go_on = num_spoken(self.turns) < self._ask.max_turns and len(self.turns) < 2 * self._ask.max_turns
        if isinstance(move, End) or may_go_on:
            return move
        return End(None, turn=len(self.turns) - 1)  # a program of someone's own that does not keep to its turns

    async def _speak(self, speak: Speak) -> None:
        form = self._set.form(speak.form)
        rendered = form.render(speak.fields, speak.so_far)
        request = DecodeRequest(
            sample_id=self.sample_id,
            messages=rendered.messages,
            stop=rendered.stop,
            temperature=self._ask.temperature,
            top_p=self._ask.top_p,
            max_tokens=self._ask.max_tokens,
            json_schema=speak.json_schema,
            watch=watch(self._siblings(), self._ask),
        )
        try:
            async with self._room.admission.turn(self._context.step_id, self._flow, has_begun=bool(self.turns)) as turn:
                self.waited_ms += turn.waited_ms
                decoded = await self._room.engine.decode(request)
                turn.decoded = decoded
        except PromptTooLong:
            if not self.turns:
                raise
            self._leave_no_turns()
            return
        # All of it, before the text is cut for storage: an answer stands at its end.
        reading = await reading_of(form, decoded, speak.so_far, speak.fields)
        text = self._fitted(decoded.text)
        is_whole = len(text) == len(decoded.text)
        if not is_whole and reading.call is not None:
            reading = Reading(None, None)  # it is not at its end, and can't go on
        self._add(
            Turn(
                form=speak.form,
                text=text,
                answer=reading.answer,
                call=reading.call,
                tokens_in=decoded.tokens_in or 0,
                tokens_out=decoded.tokens_out or 0,
                is_declined=reading.is_declined,
            ),
            is_whole=is_whole,
        )
        self.decoded[len(self.turns) - 1] = decoded
        if decoded.aborted is not None:
            ABORTED.labels(decoded.aborted.value).inc()
            log.info("path_aborted", path=self.sample_id, why=decoded.aborted.value, tokens=decoded.tokens_out)
            self._leave_no_turns()

    def _siblings(self) -> Sequence[Sibling]:
        """Those that set a bar: their figures are of the turn that gave the answer, so only where it is the only one."""
        return self._room.siblings.of(self._context.step_id) if self._ask.max_turns == 1 else ()

    async def _call(self, call: Call) -> None:
        form = self._set.form(self.turns[-1].form if self.turns else self._ask.form)
        if form.tool_use is not None and call.tool not in form.tool_use.tools:
            # The model's own invention: it reads that there is no such tool, and goes on.
            result = f"error: there is no tool {call.tool}; there are: {', '.join(form.tool_use.tools)}"
        elif call.tool not in self._ask.tools:
            raise UnknownPrompt("tool that the ask grants", call.tool, self._ask.tools)
        else:
            result = storable(await self._room.toolbox.answer(call))
        written = result if form.tool_use is None else form.tool_use.observation(result)
        text = self._fitted(written)
        self._add(Turn(form=form.name, text=text, answer=result, tool=call.tool), is_whole=text == written)

    def _add(self, turn: Turn, *, is_whole: bool) -> None:
        self.turns.append(turn)
        self._num_chars += len(turn.text)
        self._num_bytes += bounds.size(turn)
        if not is_whole or self._num_bytes >= MAX_TURNS_BYTES:
            self._leave_no_turns()

    def _leave_no_turns(self) -> None:
        self._ask = replace(self._ask, max_turns=num_spoken(self.turns))

    def _fitted(self, text: str) -> str:
        """As much of a text as can be stored with those before it."""
        text = storable(text)[: MAX_TEXT_CHARS - self._num_chars]
        return bounds.beginning(text, MAX_TURNS_BYTES - self._num_bytes)


def storable(text: str) -> str:
    """The text as JSON and PostgreSQL can hold it: no NUL, no lone surrogates, as long as before."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _program(ask: Ask, prompt_set: PromptSet) -> Program:
    if ask.program not in PROGRAMS:
        raise UnknownPrompt("program", ask.program, tuple(PROGRAMS))
    for form in PROGRAMS[ask.program].forms:
        prompt_set.form(form)
    return PROGRAMS[ask.program]


async def reading_of(
    form: Form, decoded: Decoded, so_far: str = "", fields: Mapping[str, str] | None = None
) -> Reading:
    """What counts in all of what was decoded: of a text that came to its end, or of one that was cut what is certainly whole.

    A long text is read in a thread, so that it stalls nobody.
    """
    match decoded.finish_reason:
        case FinishReason.STOP | FinishReason.LENGTH:
            is_cut = decoded.finish_reason is FinishReason.LENGTH
        case FinishReason.TOOL_CALLS | FinishReason.CONTENT_FILTER | FinishReason.ABORT | FinishReason.NONE:
            return Reading(None, None)
        case _:
            assert_never(decoded.finish_reason)
    if len(so_far) + len(decoded.text) <= _MAX_CHARS_AT_ONCE:
        reading = form.read(decoded.text, so_far, is_cut=is_cut, fields=fields)
    else:
        reading = await asyncio.to_thread(form.read, decoded.text, so_far, is_cut=is_cut, fields=fields)
    answer, call = reading.answer, None if is_cut or reading.call is None else reading.call
    if call is not None:
        call = replace(call, argument=storable(call.argument))
    if answer is not None:
        answer = storable(answer) if len(answer) <= MAX_ANSWER_CHARS else None
    return Reading(answer, call, is_declined=reading.is_declined)
