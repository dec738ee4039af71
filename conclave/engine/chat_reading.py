"""A chat completion as its bytes are read, within bounds."""

import time
from typing import Any

from conclave.engine.chat_stream import Chat, Events, StreamFailed
from conclave.engine.server_errors import Seen, ServerError

_MAX_BODY_BYTES = 8 << 20


class Reading:
    """A stream as it is read, with what only its bytes and its times tell."""

    def __init__(self, chat: Chat, started: float) -> None:
        self.chat, self._started = chat, started
        self._events = Events()
        self._begin = b""
        self.first_token_ms: float | None = None

    @property
    def is_over(self) -> bool:
        """True once nothing that may still come counts. After a finish reason the usage may."""
        is_at_a_stop = self.chat.finish_reason == "stop" and bool(self.chat.stops)
        return self.chat.is_ended or is_at_a_stop or self.chat.aborted is not None or self.chat.is_cut

    def feed(self, data: bytes) -> None:
        """Takes bytes of the stream in. Raises: StreamFailed."""
        if len(self._begin) < 1000:
            self._begin += data[:1000]
        for name, event in self._events.feed(data):
            self._take(name, event)

    def end(self) -> None:
        """Takes the stream's end in. Raises: StreamFailed."""
        for name, event in self._events.end():
            self._take(name, event)

    def body(self, data: bytes, kind: str) -> None:
        """Takes an answer in that is no stream. Raises: StreamFailed."""
        if "html" in kind:
            page = " ".join(data[:500].decode("utf-8", "replace").split())
            raise StreamFailed(ServerError(Seen.NO_STREAM, f"a page of {kind} in place of a completion: {page}"))
        self.chat.body(data)
        self.first_token_ms = (time.perf_counter() - self._started) * 1000

    def unfinished(self) -> ServerError:
        """Why a stream that has ended is none, or not whole."""
        if self.chat.is_alive:
            return ServerError(Seen.CUT_SHORT, "the stream ended without a finish reason")
        begin = " ".join(self._begin[:300].decode("utf-8", "replace").split())
        return ServerError(Seen.NO_STREAM, f"no stream of a completion: {begin or 'an empty body'}")

    def _take(self, name: str, event: bytes) -> None:
        self.chat.event(name, event)
        if self.first_token_ms is None and (self.chat.texts or self.chat.thoughts):
            self.first_token_ms = (time.perf_counter() - self._started) * 1000


async def bounded(parts: Any) -> bytes:
    """A body. Raises: StreamFailed for one that is too large to be an answer."""
    body = b""
    async for part in parts:
        body += part
        if len(body) > _MAX_BODY_BYTES:
            raise StreamFailed(ServerError(Seen.NO_STREAM, f"a body of more than {_MAX_BODY_BYTES} bytes"))
    return body
