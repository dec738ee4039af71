"""One law over every engine that needs no model: what decodes, what is cancelled and what is stopped."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from conclave.engine.openai_engine import OpenAIEngine
from conclave.engine.protocol import Decoded, DecodeRequest, Engine
from conclave.engine.scripted import ScriptedEngine
from conclave.testing.engines import check
from tests.misbehaving_server import GOOD, MisbehavingServer

PROMPT = "How much is 6 times 7?"


@asynccontextmanager
async def _scripted() -> AsyncIterator[Engine]:
    yield ScriptedEngine(latency_ms=5.0)


@asynccontextmanager
async def _openai() -> AsyncIterator[Engine]:
    server = MisbehavingServer([GOOD])
    await server.start()
    yield OpenAIEngine("m", server.url, max_running=8)
    await server.stop()


@pytest.mark.parametrize("running", [_scripted, _openai])
async def test_an_engine_keeps_the_law(running) -> None:  # type: ignore[no-untyped-def]
    async with running() as engine:
        await check(engine, PROMPT)


class _Leaks(ScriptedEngine):
    """Forgets that a path was cancelled."""

    async def decode(self, request: DecodeRequest) -> Decoded:
        self._running += 1
        decoded = await super().decode(request)
        self._running -= 1
        return decoded


class _Boasts(ScriptedEngine):
    """Writes with more than certainty."""

    async def decode(self, request: DecodeRequest) -> Decoded:
        decoded = await super().decode(request)
        return Decoded(decoded.text, decoded.finish_reason, 1, 1, 0.5, 0.5, 0.0, 0.0, decoded.total_ms)


@pytest.mark.parametrize(
    ("engine", "said"), [(_Leaks(latency_ms=50.0), "an idle engine after a cancellation"), (_Boasts(), "0.5")]
)
async def test_an_engine_that_breaks_the_law_is_found(engine: Engine, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        await check(engine, PROMPT, limit_s=1.0)
