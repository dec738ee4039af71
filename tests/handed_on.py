"""Paths that are handed on from decoder to decoder, and an engine whose tokens can be cut anywhere."""

import asyncio
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from conclave.engine.protocol import Decoded, DecodeRequest
from conclave.engine.scripted import ScriptedEngine
from schemas import codec
from schemas.events import PathDecoded, PathFailed, SampleRequested
from schemas.flow import Topic
from schemas.values import Ask, FinishReason
from services.decoder.handler import Decoder
from tests.speakers import Speaker, arrival

LONG = Ask(form="chain_of_thought", chunk_tokens=16)


def read_back(event: SampleRequested) -> SampleRequested:
    """The event as its next reader has it."""
    read = codec.decode(Topic.SAMPLES.value, codec.versioned_type(SampleRequested), codec.encode(event))
    assert isinstance(read, SampleRequested)
    return read


def of_id(one: SampleRequested) -> SampleRequested:
    """The same sample of a request whose id, and so what a script makes of it, is always the same."""
    return replace(one, context=replace(one.context, request_id="0198c5b2-7e1a-7c3e-9d55-2f6a1b0c4d5e"))


async def gone_through(one: SampleRequested, decoders: Sequence[Decoder]) -> tuple[PathDecoded | PathFailed, int]:
    """The end of a path that goes from decoder to decoder, and how often it was handed on."""
    for number in range(1_000):
        *_, event = await decoders[number % len(decoders)].handle(one, arrival())
        if isinstance(event, PathDecoded | PathFailed):
            return event, number
        assert isinstance(event, SampleRequested)
        one = read_back(event)
    raise AssertionError("it goes on for ever")


def alike(path: PathDecoded) -> PathDecoded:
    """A path without what depends on when and by whom it was decoded."""
    times = {"queued_ms": 0.0, "first_token_ms": 0.0, "total_ms": 0.0, "waited_ms": 0.0, "load": 0.0}
    figures = {
        name: None if (value := getattr(path, name)) is None else round(value, 4)
        for name in ("mean_logprob", "min_logprob", "answer_logprob", "lowest_group_logprob", "tail_logprob")
    }
    context = replace(path.context, ask=replace(path.context.ask, chunk_tokens=0))
    return replace(path, num_handed_on=0, context=context, **times, **figures)


Tokens = Callable[[DecodeRequest], Sequence[str]]


class Typist(Speaker):
    """An engine that says the tokens which `say` makes of a request without its prefix, a few in each turn of the loop."""

    def __init__(self, say: Tokens, *, max_running: int = 2, tokens_a_turn: int = 4) -> None:
        super().__init__(lambda _: "", max_running=max_running)
        self._tokens, self._tokens_a_turn = say, tokens_a_turn

    async def decode(self, request: DecodeRequest) -> Decoded:
        self.running += 1
        self.asked.append(request)
        try:
            return await self._typed(request)
        finally:
            self.running -= 1

    async def _typed(self, request: DecodeRequest) -> Decoded:
        tokens = tuple(self._tokens(replace(request, prefix=None)))
        before = 0 if request.prefix is None else request.prefix.num_tokens
        assert request.prefix is None or request.prefix.text == "".join(tokens[:before])
        assert request.prefix is None or request.prefix.token_ids == tuple(range(before))
        most, end = min(len(tokens), before + (request.chunk_tokens or len(tokens))), before
        while end < most and not (request.cut and request.cut.is_asked):
            end = min(most, end + self._tokens_a_turn)
            await asyncio.sleep(0)
        said = [(tokens[place], -0.25 - place / 64) for place in range(before, end)]
        decoded = part(said, is_cut=end < len(tokens))
        ids = tuple(range(before, end)) if decoded.is_cut else ()
        return replace(
            decoded, finish_reason=FinishReason.STOP, token_ids=ids, queued_ms=1.0, first_token_ms=2.0, total_ms=3.0
        )


def typing(say: Callable[[DecodeRequest], str]) -> Tokens:
    """What a speaker says, a character a token."""
    return lambda request: tuple(say(request))


def part(tokens: Sequence[tuple[str, float]], *, is_cut: bool = False) -> Decoded:
    """Tokens as an engine gives them."""
    logprobs = tuple(logprob for _, logprob in tokens)
    return Decoded(
        text="".join(text for text, _ in tokens),
        finish_reason=FinishReason.LENGTH,
        tokens_in=7,
        tokens_out=len(tokens),
        mean_logprob=sum(logprobs) / len(logprobs) if logprobs else None,
        min_logprob=min(logprobs, default=None),
        queued_ms=0.0,
        first_token_ms=0.0,
        total_ms=0.0,
        token_logprobs=logprobs,
        token_texts=tuple(text for text, _ in tokens),
        is_cut=is_cut,
    )


async def in_one_go(path: PathDecoded) -> PathDecoded:
    """The same sample, decoded without a cut."""
    context = replace(path.context, ask=replace(path.context.ask, chunk_tokens=0), deadline_ms=2**47)
    one = SampleRequested(context=context, sample_index=path.sample_index, launched=path.launched)
    whole, _ = await gone_through(one, [Decoder(ScriptedEngine(latency_ms=0.001))])
    assert isinstance(whole, PathDecoded)
    return replace(whole, context=path.context)
