"""A path while it is decoded, turn by turn: its program says what comes next, engine and tools answer, until it ends.

    1. the program is asked, with the turns so far
    2. Speak: the form is filled in, waits for its turn on the engine, is decoded and read
       Call:  the tool answers, and the form says how that is put in
       End:   the path has ended
    3. where it is to be handed on (its chunk is full, or its `cut` is asked for), it ends with how far it has come
A turn that its watch breaks off (conclave.domain.path_watch) is the last and gives no answer; what was said by then stays. A path
whose next prompt the model has no room for, or whose texts together outgrow an event, has no turns left: its program ends it with
what there is. What was decoded of a turn before a cut and after it is one turn (services.decoder.handing_on).
"""

from collections.abc import Sequence
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
from conclave.domain.token_confidence import TokenConfidence, token_confidence
from conclave.engine.admission import Admission
from conclave.engine.cut import Cut
from conclave.engine.protocol import CannotGoOn, Decoded, DecodeRequest, Engine, PromptTooLong
from conclave.errors import PutBack
from conclave.prompts import Form, PromptSet, Reading, Rendered, UnknownPrompt
from conclave.tools.toolbox import Toolbox
from schemas.ids import path_id
from schemas.values import MAX_TEXT_CHARS, Ask, BegunTurn, Call, Progress, StepContext, Turn
from services.decoder import handing_on
from services.decoder.handing_on import storable
from services.decoder.reading import reading_of
from services.decoder.siblings import Siblings

ABORTED = Counter("conclave_paths_aborted", "Paths broken off while they were decoded, by why", ("why",))
HANDED_ON = Counter("conclave_paths_handed_on", "Paths that ended here with how far they had come, to be gone on with")
PROMPT_TOKENS = Counter(
    "conclave_prompt_tokens",
    "Tokens of prompts, where the engine says whether they were in its KV cache",
    ("of", "cached"),
)
MAX_TURNS_BYTES = 1_000_000  # of all turns of a path in its event, beside its step

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    """What rollouts need: an engine with its waiting room, and tools."""

    engine: Engine
    admission: Admission
    toolbox: Toolbox
    siblings: Siblings = field(default_factory=Siblings)


class Rollout:
    """One path under way. What was said is there at any time, also when it is cut."""

    def __init__(
        self,
        room: Room,
        prompt_set: PromptSet,
        context: StepContext,
        sample_index: int,
        progress: Progress | None = None,
    ) -> None:
        """`progress`: how far it had come, if it was handed on. Raises: UnknownPrompt when program, form or field is not there."""
        self._room, self._set, self._context, self._before = room, prompt_set, context, progress
        self.step_id = context.step_id
        self.sample_id = path_id(self.step_id, sample_index)
        self._program = _program(context.ask, prompt_set)
        prompt_set.form(context.ask.form).check(context.step.fields)
        self._flow = Flow(context.priority, context.tenant)
        self.waited_ms = 0.0 if progress is None else progress.waited_ms  # for turns, whatever became of them
        self.cut = Cut()
        self.begin_again()

    def begin_again(self) -> None:
        """Forgets all that was said here."""
        self._ask: Ask = self._context.ask
        self._num_chars = self._num_bytes = 0
        self.turns: list[Turn] = []
        self.decoded: dict[int, Decoded] = {}  # by turn, of those that are the model's
        self.sure: dict[int, TokenConfidence] = {}  # by turn, of those that were handed on
        self._begun: BegunTurn | None = None
        if self._before is not None:
            self._go_on_from(self._before)
        self._has_news = self._is_cut = self._is_speaking = False

    def _go_on_from(self, progress: Progress) -> None:
        said = iter(progress.figures)
        for number, turn in enumerate(progress.turns):
            self._add(turn, is_whole=True)
            if turn.tool is None:
                self.decoded[number], self.sure[number] = handing_on.decoded_before(turn, next(said))
        self._begun = progress.begun

    @property
    def is_in_chunks(self) -> bool:
        """True for a path that its policy has handed on whenever it may be lost."""
        return self._context.ask.chunk_tokens > 0

    @property
    def is_begun(self) -> bool:
        """True for a path that has something to hand on, or is about to."""
        return self._has_news or self._is_speaking

    @property
    def tokens_in(self) -> int:
        """Of all prompts so far."""
        begun = self._begun.figures.tokens_in if self._begun is not None else 0
        return sum(turn.tokens_in for turn in self.turns) + (begun or 0)

    @property
    def tokens_out(self) -> int:
        """Generated so far."""
        return sum(turn.tokens_out for turn in self.turns) + self._num_begun

    @property
    def _num_begun(self) -> int:
        return (self._begun.figures.tokens_out or 0) if self._begun is not None else 0

    async def run(self) -> End | Progress:
        """The end of the path, or how far it has come where it is to be handed on.

        Raises: UnknownPrompt, PathFault, EngineLost; PutBack for one that has come no further, and that nobody waits for here.
        """
        while True:
            move = self._next()
            if isinstance(move, Speak) and (self._is_cut or self.cut.is_asked):
                if (progress := self._to_hand_on()) is not None:
                    return progress
                self._is_cut, self.cut.is_over = False, True
                self.cut = Cut()
            match move:
                case Speak() as speak:
                    await self._speak(speak)
                case Call() as call:
                    await self._call(call)
                case End() as end:
                    return end
                case _:
                    assert_never(move)

    def _to_hand_on(self) -> Progress | None:
        """How far it has come; None where that is no further than its record says, or more than an event holds."""
        if not self._has_news:
            return None
        said = [
            handing_on.figures(decoded, self.sure[number] if number in self.sure else self._how_sure(number))
            for number, decoded in self.decoded.items()
        ]
        made = handing_on.progress(self.turns, said, self._begun, waited_ms=self.waited_ms, before=self._before)
        if made is not None:
            HANDED_ON.inc()
        return made

    def _how_sure(self, number: int) -> TokenConfidence:
        decoded = self.decoded[number]
        return token_confidence(
            decoded.token_logprobs, decoded.token_texts, text=decoded.text, answer=self.turns[number].answer
        )

    def _next(self) -> Speak | Call | End:
        move = self._program.go_on(self._context.step.fields, self.turns, self._ask)
        if isinstance(move, End) or not self.turns:
            return move
        if num_spoken(self.turns) < self._ask.max_turns and len(self.turns) < 2 * self._ask.max_turns:
            return move
        return End(None, turn=len(self.turns) - 1)  # a program of someone's own that does not keep to its turns

    async def _speak(self, speak: Speak) -> None:
        form = self._set.form(speak.form)
        rendered = form.render(speak.fields, speak.so_far)
        request = self._request(speak, rendered)
        try:
            async with self._room.admission.turn(
                self.step_id, self._flow, has_begun=self._has_news, cut=self.cut
            ) as turn:
                self.waited_ms += turn.waited_ms
                self._is_speaking = True
                decoded = await self._room.engine.decode(request)
                turn.decoded = decoded
                _count_cached(decoded, of="conversation" if self._context.conversation else "step")
        except PutBack:
            if not self._has_news:
                raise
            self._is_cut = True
            return
        except CannotGoOn:
            if self._begun is None:
                raise
            self._begun = None  # decoded elsewhere: this turn begins again
            return
        except PromptTooLong:
            if self._begun is not None:
                decoded = handing_on.ended_at_limit(self._begun)
            elif self.turns:
                self._leave_no_turns()
                return
            else:
                raise
        else:
            if self._begun is not None:
                decoded = handing_on.joined(self._begun, decoded, rendered.stop)
        finally:
            self._is_speaking = False
        if decoded.is_cut:
            self._keep(decoded, speak)
        else:
            self._begun = None
            await self._said(speak, form, decoded)

    def _request(self, speak: Speak, rendered: Rendered) -> DecodeRequest:
        """What is asked of the engine. JSON that is held to a schema is not gone on from: its grammar would begin anew."""
        begun, seen = self._begun, watch(self._siblings(), self._ask)
        if begun is not None and seen is not None:
            seen.feed(begun.text, handing_on.logprobs(begun))
        may_cut = self._has_news or not speak.json_schema
        return DecodeRequest(
            sample_id=self.sample_id,
            messages=rendered.messages,
            stop=rendered.stop,
            temperature=self._ask.temperature,
            top_p=self._ask.top_p,
            max_tokens=self._ask.max_tokens if begun is None else max(1, self._ask.max_tokens - self._num_begun),
            json_schema=speak.json_schema,
            watch=seen,
            prefix=None if begun is None else handing_on.prefix(begun),
            chunk_tokens=0 if speak.json_schema else self._ask.chunk_tokens,
            cut=self.cut if may_cut else None,
        )

    def _keep(self, decoded: Decoded, speak: Speak) -> None:
        """Keeps what there is of a turn that was cut."""
        self._is_cut = True
        if not speak.json_schema:
            self._has_news = self._has_news or (decoded.tokens_out or 0) > self._num_begun
            self._begun = handing_on.begun(decoded, self._room.engine.model)

    async def _said(self, speak: Speak, form: Form, decoded: Decoded) -> None:
        """Adds a turn of the model's to the path."""
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
        return self._room.siblings.of(self.step_id) if self._ask.max_turns == 1 else ()

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
        self._has_news = True
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


def _count_cached(decoded: Decoded, *, of: str) -> None:
    """`of`: what the path shares its decoder with."""
    if decoded.tokens_cached is not None and decoded.tokens_in is not None:
        PROMPT_TOKENS.labels(of, "yes").inc(decoded.tokens_cached)
        PROMPT_TOKENS.labels(of, "no").inc(max(0, decoded.tokens_in - decoded.tokens_cached))


def _program(ask: Ask, prompt_set: PromptSet) -> Program:
    if ask.program not in PROGRAMS:
        raise UnknownPrompt("program", ask.program, tuple(PROGRAMS))
    for form in PROGRAMS[ask.program].forms:
        prompt_set.form(form)
    return PROGRAMS[ask.program]
