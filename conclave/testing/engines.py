"""The law that every engine keeps, whatever decodes."""

import asyncio
import math
from collections.abc import Sequence

from msgspec.structs import replace

from conclave.engine.cut import Cut, Prefix
from conclave.engine.protocol import Decoded, DecodeRequest, Engine
from conclave.prompts import Message
from conclave.testing.waiting import until

_MAX_NAME_CHARS = 256  # of an engine and of a model in an event


async def check(engine: Engine, prompt: str, *, limit_s: float = 60.0) -> None:
    """Starts the engine, has it decode `prompt`, cancels it and stops it. Raises: AssertionError when it breaks its law.

    Once started it has no trouble. A path's figures are sane, or None where it does not know them. Paths are decoded side by
    side. What is cut says how many tokens there are, and comes to its end when it is gone on from. A cancelled path frees what it
    held. Stopped, it is gone within `limit_s`, and may be stopped again.
    """
    assert 0 < len(engine.name) <= _MAX_NAME_CHARS
    assert engine.max_running > 0
    async with asyncio.timeout(limit_s):
        await engine.start()
    try:
        assert engine.trouble() is None, f"just started, and in trouble: {engine.trouble()}"
        assert 0 < len(engine.model) <= _MAX_NAME_CHARS
        async with asyncio.timeout(limit_s):
            for decoded in await _decoded(engine, prompt, num_paths=min(4, engine.max_running)):
                _check_figures(decoded)
            await _check_cutting(engine, prompt)
        await until(lambda: engine.load().running == 0, limit_s=limit_s, what="an idle engine after the last path")
        await _check_cancelling(engine, prompt, limit_s)
    finally:
        for _ in range(2):
            async with asyncio.timeout(limit_s):
                await engine.stop()


async def _decoded(engine: Engine, prompt: str, num_paths: int) -> Sequence[Decoded]:
    return await asyncio.gather(*(engine.decode(_request(prompt, number)) for number in range(num_paths)))


def _request(prompt: str, number: int) -> DecodeRequest:
    return DecodeRequest(f"0198c5b2-0000-7000-8000-000000000000/0/{number}", (Message("user", prompt),), max_tokens=64)


def _check_figures(decoded: Decoded) -> None:
    counts = (decoded.tokens_in, decoded.tokens_out)
    assert all(each is None or each >= 0 for each in counts), f"tokens: {counts}"
    logprobs = [each for each in (decoded.mean_logprob, decoded.min_logprob) if each is not None]
    assert all(math.isfinite(each) and each <= 0 for each in logprobs), f"log probabilities: {logprobs}"
    assert decoded.mean_logprob is None or decoded.min_logprob is None or decoded.min_logprob <= decoded.mean_logprob
    times = (decoded.queued_ms, decoded.first_token_ms, decoded.total_ms)
    assert all(math.isfinite(each) and each >= 0 for each in times), f"milliseconds: {times}"


async def _check_cutting(engine: Engine, prompt: str) -> None:
    """Decodes a path in chunks of four tokens, and one that is to be cut from the first."""
    request = replace(_request(prompt, 0), chunk_tokens=4)
    while (decoded := await engine.decode(request)).is_cut:
        assert decoded.tokens_out, "a path was cut whose tokens are not counted, or are none"
        assert decoded.tokens_out < request.max_tokens, "a path was cut that may not be longer"
        request = replace(
            request, prefix=_longer(request.prefix, decoded, engine), max_tokens=request.max_tokens - decoded.tokens_out
        )
    cut = Cut()
    cut.ask()
    decoded = await engine.decode(replace(_request(prompt, 1), cut=cut))
    assert decoded.tokens_out is not None or not decoded.is_cut


def _longer(before: Prefix | None, decoded: Decoded, engine: Engine) -> Prefix:
    text, num_tokens, ids = ("", 0, ()) if before is None else (before.text, before.num_tokens, before.token_ids)
    return Prefix(text + decoded.text, num_tokens + (decoded.tokens_out or 0), (*ids, *decoded.token_ids), engine.model)


async def _check_cancelling(engine: Engine, prompt: str, limit_s: float) -> None:
    """Cancels paths at their very beginning and a little later: each ends at once, and the engine is idle again."""
    for turns_of_the_loop in (0, 1, 5):
        tasks = [asyncio.create_task(engine.decode(_request(prompt, number))) for number in range(4)]
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), limit_s)
        unlike = [end for end in ends if not isinstance(end, asyncio.CancelledError | Decoded)]
        assert not unlike, f"a cancelled path ended with {unlike[0]!r}"
        await until(lambda: engine.load().running == 0, limit_s=limit_s, what="an idle engine after a cancellation")
