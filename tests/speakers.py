"""Engines that say what a test tells them, and paths that they decode."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from conclave.engine.protocol import Decoded, DecodeRequest, EngineLoad
from conclave.engine.trouble import Trouble, TroubleListener, ignore
from conclave.runtime.handler import Arrival
from conclave.runtime.limits import MAX_OUTPUT_BYTES
from schemas import codec
from schemas.events import PathDecoded, PathFailed, SampleRequested, TextStored
from schemas.ids import new_request_id
from schemas.values import Ask, FinishReason, Step, StepContext
from services.decoder.handler import Decoder

TOOL = Ask(form="tool", program="tools", max_turns=12, tools=("whole_calculator",))

CRITICISED = Ask(form="chain_of_thought", program="criticised", max_turns=3)

STATED = Ask(form="chain_of_thought", program="stated", max_turns=2)

Say = Callable[[DecodeRequest], str | Exception]


def decoded(text: str, finish: FinishReason = FinishReason.STOP, logprob: float = -0.1) -> Decoded:
    """One turn as an engine gives it."""
    return Decoded(
        text=text, finish_reason=finish, tokens_in=10, tokens_out=5, mean_logprob=logprob, min_logprob=2 * logprob,
        queued_ms=1.0, first_token_ms=2.0, total_ms=3.0,
    )  # fmt: skip


@dataclass
class Speaker:
    """An engine that says what `say` makes of the request, after a few turns of the loop."""

    say: Callable[[DecodeRequest], Decoded | str | Exception]
    num_waits: Callable[[], int] = lambda: 0
    max_running: int = 2
    name: str = "fake"
    model: str = "none"
    running: int = 0
    asked: list[DecodeRequest] = field(default_factory=list)

    async def start(self, hear: TroubleListener = ignore) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    def trouble(self) -> Trouble | None:
        """None ever."""
        return None

    def load(self) -> EngineLoad:
        """What runs."""
        return EngineLoad(self.running, 0, 0.0)

    async def decode(self, request: DecodeRequest) -> Decoded:
        """What there is to say."""
        self.running += 1
        self.asked.append(request)
        try:
            for _ in range(self.num_waits()):
                await asyncio.sleep(0)
            said = self.say(request)
            if isinstance(said, Exception):
                raise said
            return decoded(said) if isinstance(said, str) else said
        finally:
            self.running -= 1


def calculating(request: DecodeRequest) -> str:
    """The shipped model's way with a tool: two sums, then the answer."""
    said = request.messages[-1].content if request.messages[-1].role == "assistant" else ""
    return ("calculate(17-6", "#1=11\ncalculate(11*4", "Answer: 44")[said.count("\n") - said.count("#")]


def arguing(request: DecodeRequest) -> str:
    """An attempt, a criticism and a better attempt, or how sure it is."""
    asked = request.messages[-1].content
    if asked.endswith("Check it."):
        return "a 1+1=3? no\nStep 1 is wrong: 1+1=3"
    if asked.endswith("How sure?"):
        return "95"
    return "a 1+1=2\nAnswer: 2" if asked.endswith("Try again.") else "a 1+1=3\nAnswer: 3"


def sample(ask: Ask, *, left_ms: int = 60_000, prompt_set: str = "reasoner-v3") -> SampleRequested:
    """A path to decode."""
    context = StepContext(
        request_id=new_request_id(),
        step=Step(index=0, fields={"question": "1+1?"}),
        ask=ask,
        prompt_set=prompt_set,
        policy="default",
        deadline_ms=int(time.time() * 1000) + left_ms,
    )
    return SampleRequested(context=context, sample_index=0, launched=1)


def arrival() -> Arrival:
    """Now."""
    now_ms = int(time.time() * 1000)
    return Arrival("id", "key", now_ms, now_ms, "reasoning.samples/0/0")


async def ended(decoder: Decoder, one: SampleRequested) -> PathDecoded | PathFailed:
    """The one end of a sample, which can be written and read, after the chunks of a long text."""
    *chunks, event = await decoder.handle(one, arrival())
    assert all(isinstance(chunk, TextStored) for chunk in chunks)
    assert isinstance(event, PathDecoded | PathFailed)
    value = codec.encode(event)
    assert len(value) < MAX_OUTPUT_BYTES
    assert codec.decode("reasoning.paths", codec.versioned_type(type(event)), value) == event
    return event
