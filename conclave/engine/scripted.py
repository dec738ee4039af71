"""An engine that follows a script instead of a model: for tests and for measuring everything else.

Each sample's answer, length and latency follow from its prompt and its id alone, so a run can be repeated. The answer is the
prompt's own digest most of the time and a near miss otherwise, so votes are contested as with a real model. It calls a
calculator where a closing bracket stops it, line after line where a line's end does, and keeps to any other stop as well; where
there is a JSON Schema it writes an object of its fields. Time passes evenly over its tokens, and a path that is cut and gone on
from says what it would have said in one go.
"""

import asyncio
import math
import random
import struct
import time
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from conclave.engine.cut import Cut
from conclave.engine.protocol import Decoded, DecodeRequest, EngineLoad
from conclave.engine.trouble import Trouble, TroubleListener, ignore
from schemas.values import FinishReason


class ScriptedEngine:
    """See the module's docstring. `latency_ms` is the mean of an exponential; 0 answers at once. `journal`: a file that gets
    the id of every sample that is started, to see what is decoded again after a crash."""

    def __init__(
        self, *, latency_ms: float = 5.0, accuracy: float = 0.7, max_running: int = 10_000, journal: str = ""
    ) -> None:
        self._latency_ms, self._accuracy, self._max_running = latency_ms, accuracy, max_running
        self._journal = Path(journal) if journal else None
        self._running = 0
        self.num_started = 0

    @property
    def name(self) -> str:
        """Always `scripted`."""
        return "scripted"

    @property
    def model(self) -> str:
        """Always `script`."""
        return "script"

    @property
    def max_running(self) -> int:
        """As set."""
        return self._max_running

    async def start(self, hear: TroubleListener = ignore) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    async def decode(self, request: DecodeRequest) -> Decoded:
        """The scripted path of this prompt and sample, from its prefix on."""
        started = time.perf_counter()
        text, num_tokens, token_s, logprob, tokens_in = self._script(request)
        self._running += 1
        self.num_started += 1
        if self._journal is not None:
            with self._journal.open("a") as lines:  # a line is one small write: it survives a kill, and is never torn
                lines.write(request.sample_id + "\n")
        before = 0 if request.prefix is None else request.prefix.num_tokens
        end = num_tokens
        if request.chunk_tokens:
            end = min(end, before + request.chunk_tokens)
        try:
            if token_s > 0:
                end = before + await _passed(end - before, token_s, request.cut)
        finally:
            self._running -= 1
        if before or end < num_tokens:  # a part, of which each token has as many characters as any other
            text = text[len(text) * before // num_tokens : len(text) * end // num_tokens]
        tokens_out = max(0, end - before)
        total_ms = (time.perf_counter() - started) * 1000
        return Decoded(
            text=text,
            finish_reason=FinishReason.STOP,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            mean_logprob=logprob,
            min_logprob=logprob * 4,
            queued_ms=0.0,
            first_token_ms=total_ms / (tokens_out or 1),
            total_ms=total_ms,
            is_cut=end < num_tokens,
        )

    def _script(self, request: DecodeRequest) -> tuple[str, int, float, float, int]:
        """All of a path: its text, its tokens, the seconds that each takes, their log probability, and the prompt's tokens."""
        prompt = next(message.content for message in reversed(request.messages) if message.role == "user")
        luck, miss, patience, length, doubt = _draws(prompt, request.sample_id)
        right = _right_answer(prompt)
        answer = right if luck < self._accuracy else right + 1 + int(3 * miss)
        latency_s = -math.log1p(-patience) * self._latency_ms / 1000
        most = request.max_tokens + (request.prefix.num_tokens if request.prefix is not None else 0)
        num_tokens = min(10 + int(51 * length), most)
        logprob = -doubt * (0.2 if answer == right else 0.6)
        return _said(request, answer), num_tokens, latency_s / num_tokens, logprob, len(prompt.split())

    def load(self) -> EngineLoad:
        """What runs now; a script has no cache to fill."""
        return EngineLoad(self._running, 0, 0.0)

    def trouble(self) -> Trouble | None:
        """Never any."""
        return None


async def _passed(num_tokens: int, token_s: float, cut: Cut | None) -> int:
    """So many tokens, once their time has passed; those that were there by then where it is cut before."""
    if cut is None:
        await asyncio.sleep(num_tokens * token_s)
        return num_tokens
    loop = asyncio.get_running_loop()
    started_s, over = loop.time(), loop.create_future()

    def end() -> None:
        if not over.done():
            over.set_result(None)

    timer = loop.call_later(num_tokens * token_s, end)
    try:
        cut.tell(end)
        await over
    finally:
        cut.tell(None)
        timer.cancel()
    return num_tokens if not cut.is_asked else min(num_tokens, int((loop.time() - started_s) / token_s))


def _as_json(json_schema: str, answer: int) -> str:
    """An object that has the answer in each field of a number, and of each of several texts one of them."""
    fields: dict[str, dict[str, Any]] = msgspec.json.decode(json_schema).get("properties", {})
    said = {
        name: each["enum"][answer % len(each["enum"])] if "enum" in each else answer for name, each in fields.items()
    }
    return msgspec.json.encode(said).decode()


def _draws(prompt: str, sample_id: str) -> list[float]:
    """Five numbers from 0 up to 1, even and always the same for a sample: a generator of its own takes six times as long."""
    digest = blake2b(f"{prompt}\0{sample_id}".encode("utf-8", "replace"), digest_size=20).digest()
    return [word / 2**32 for word in struct.unpack("5I", digest)]


@lru_cache(maxsize=1024)
def _right_answer(prompt: str) -> int:
    return random.Random(prompt).randrange(1000)


def _said(request: DecodeRequest, answer: int) -> str:
    """The text up to its first stop; the answer alone once two lines have been said."""
    last = request.messages[-1]
    so_far = last.content if last.role == "assistant" else ""
    if request.json_schema:
        return _as_json(request.json_schema, answer)
    if so_far.count("\n") >= 2 or "=" in so_far:
        text = f"Answer: {answer}"
    elif ")" in request.stop:
        text = f"calculate({answer}+1)"
    else:
        text = f"It adds up.\nAnswer: {answer}"
    return text[: min((at for stop in request.stop if (at := text.find(stop)) >= 0), default=len(text))]
