"""What a chat completion's stream says, whatever its shape: bytes in, a path out. Lenient in what is beside the point (usage,
log probabilities, fields that are null), strict in what is not (that it is a stream, and that it comes to its end).
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from conclave.domain.path_watch import BrokenOff, Watch
from conclave.engine.cut import Cut
from conclave.engine.server_errors import Seen, ServerError
from schemas.values import MAX_TEXT_CHARS

_MAX_EVENT_BYTES = 4 << 20
_MAX_TOKENS = 10**8  # a count above it is no count
_FAILURES = ("error", "load", "unload", "network_error", "insufficient_system_resource")  # given as finish reasons
_MOST_UNLIKELY = -100.0  # in place of minus infinity: the record holds finite numbers


class StreamFailed(Exception):
    """The stream says, or is, an error."""

    def __init__(self, error: ServerError) -> None:
        super().__init__(str(error))
        self.error = error


class Events:
    """Splits bytes into the data of server-sent events (WHATWG HTML, "Server-sent events"), as they come."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._name = b""

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """(name, data) of every event that is complete now. Raises: StreamFailed for one that does not end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from self._line(line.rstrip(b"\r"))
        if len(self._rest) + sum(map(len, self._data)) > _MAX_EVENT_BYTES:
            raise StreamFailed(ServerError(Seen.NO_STREAM, f"an event of more than {_MAX_EVENT_BYTES} bytes"))

    def end(self) -> Iterator[tuple[str, bytes]]:
        """What the stream's end completes."""
        yield from self._line(self._rest.rstrip(b"\r"))
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[tuple[str, bytes]]:
        if not line:
            if self._data:
                yield self._name.decode("utf-8", "replace"), b"\n".join(self._data)
            self._data, self._name = [], b""
            return
        name, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value


@dataclass
class Chat:
    """What has been said so far. Only the first choice counts."""

    stops: tuple[str, ...] = ()  # looked for here, since the server was not told of them
    watch: Watch | None = None
    cut: Cut | None = None  # of a path that can be gone on from
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)  # the tokens' texts, one for each log probability
    finish_reason: str | None = None
    is_ended: bool = False  # by [DONE], or a body that is complete in itself
    is_alive: bool = False  # it has said something that only a model server says
    aborted: BrokenOff | None = None  # by its watch
    is_cut: bool = False
    tokens_in: int | None = None
    tokens_cached: int | None = None  # of the prompt's, in the server's cache already
    tokens_out: int | None = None
    _unwatched: list[str] = field(default_factory=list)
    _num_watched: int = 0  # log probabilities
    _length: int = 0
    _tail: str = ""  # the end of the text in which a stop string may just have become whole

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(self.texts)

    @property
    def thought(self) -> str:
        """What the server marked as reasoning."""
        return "".join(self.thoughts)

    @property
    def is_whole(self) -> bool:
        """True once nothing more has to come."""
        return self.is_ended or self.finish_reason is not None

    def event(self, name: str, data: bytes) -> None:
        """Takes an event in; none after a cut. Raises: StreamFailed."""
        if self.is_cut:
            return
        if data.strip().startswith(b"[DONE]"):
            self.is_ended = True
            return
        if not data.strip():
            return
        try:
            chunk = loads(data)
        except ValueError:
            seen = Seen.IN_STREAM if name == "error" else Seen.NO_STREAM
            raise StreamFailed(ServerError(seen, data[:1000].decode("utf-8", "replace"))) from None
        self.chunk(chunk, is_error=name == "error")

    def body(self, data: bytes) -> None:
        """Takes an answer in that is no stream but one JSON object. Raises: StreamFailed."""
        try:
            chunk = loads(data)
        except ValueError:
            raise StreamFailed(ServerError(Seen.NO_STREAM, data[:1000].decode("utf-8", "replace"))) from None
        self.chunk(chunk, is_error=False)
        if not self.is_alive:
            raise StreamFailed(ServerError(Seen.NO_STREAM, data[:1000].decode("utf-8", "replace")))
        self.is_ended = True

    def chunk(self, chunk: Any, *, is_error: bool) -> None:
        """Takes a chunk in. Raises: StreamFailed for one that is an error."""
        error = error_in(chunk, is_error=is_error)
        if error is not None:
            raise StreamFailed(error)
        if not isinstance(chunk, Mapping):
            return
        self._usage(chunk.get("usage"))
        choice = _first_choice(chunk.get("choices"))
        if choice is None:
            return
        self.is_alive = True
        said = choice.get("delta")
        said = said if isinstance(said, Mapping) else choice.get("message")
        self._said(said if isinstance(said, Mapping) else {"content": choice.get("text")})
        self._logprobs(choice.get("logprobs"))
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = reason
        if choice.get("error") or reason in _FAILURES:
            raise StreamFailed(
                error_in(choice, is_error=False) or ServerError(Seen.IN_STREAM, f"finish_reason {reason}")
            )
        self._stop()
        self._look()
        self._cut_where_asked()

    def _said(self, said: Mapping[str, Any]) -> None:
        content = said.get("content")
        if isinstance(content, list):  # parts: {"type": "text", "text": …}, {"type": "thinking", …}
            for part in content:
                is_thought = isinstance(part, Mapping) and part.get("type") in ("thinking", "reasoning")
                self._add(self.thoughts if is_thought else self.texts, _text_of(part))
        else:
            self._add(self.texts, content)
        thought = said.get("reasoning_content")
        self._add(self.thoughts, thought if isinstance(thought, str) and thought else said.get("reasoning"))
        self._add(self.refusals, said.get("refusal"))

    def _stop(self) -> None:
        """Ends the text at a stop string, or where it is longer than any path may be."""
        if self.stops and any(stop in self._tail for stop in self.stops):
            text = self.text
            end = min(place for stop in self.stops if (place := text.find(stop)) >= 0)
            self.texts, self.finish_reason = [text[:end]], "stop"
        elif self._length > 2 * MAX_TEXT_CHARS:
            self.finish_reason = "length"

    def _look(self) -> None:
        """Has what is new watched, a number of pieces at a time."""
        if self.watch is None or self.is_whole or len(self._unwatched) < self.watch.tokens_at_a_time:
            return
        self.aborted = self.watch.feed("".join(self._unwatched), self.logprobs[self._num_watched :])
        self._unwatched, self._num_watched = [], len(self.logprobs)
        if self.aborted is not None:
            self.finish_reason = "abort"

    def _cut_where_asked(self) -> None:
        """Ends it with what there is, where all of its tokens are known and none is a thought."""
        if self.cut is not None and self.cut.is_asked and not self.is_whole and self.logprobs and not self.thoughts:
            self.is_cut, self.finish_reason = True, "abort"

    def _add(self, texts: list[str], text: Any) -> None:
        if not isinstance(text, str) or not text:
            return
        texts.append(text)
        self._length += len(text)
        if self.watch is not None:
            self._unwatched.append(text)
        if self.stops and texts is self.texts:
            overlap = max(map(len, self.stops)) - 1
            self._tail = self._tail[-overlap:] + text if overlap else text

    def _usage(self, usage: Any) -> None:
        if isinstance(usage, Mapping):
            self.tokens_in = _count(usage.get("prompt_tokens"), self.tokens_in)
            self.tokens_out = _count(usage.get("completion_tokens"), self.tokens_out)
            told = usage.get("prompt_tokens_details")
            if isinstance(told, Mapping):
                self.tokens_cached = _count(told.get("cached_tokens"), self.tokens_cached)

    def _logprobs(self, logprobs: Any) -> None:
        if not isinstance(logprobs, Mapping):
            return
        entries = logprobs.get("content")
        if isinstance(entries, list):
            pieces = [entry.get("token") if isinstance(entry, Mapping) else None for entry in entries]
            entries = [entry.get("logprob") if isinstance(entry, Mapping) else None for entry in entries]
        else:
            entries, said = logprobs.get("token_logprobs"), logprobs.get("tokens")
            pieces = said if isinstance(said, list) else []
        if not isinstance(entries, list):
            return
        if len(pieces) != len(entries):
            pieces = [None] * len(entries)
        for entry, piece in zip(entries, pieces, strict=True):
            if isinstance(entry, int | float) and not isinstance(entry, bool) and not math.isnan(entry):
                self.logprobs.append(min(0.0, max(_MOST_UNLIKELY, float(entry))))
                self.pieces.append(piece if isinstance(piece, str) else "")


def error_in(chunk: Any, *, is_error: bool, status: int = 0) -> ServerError | None:
    """The error that a chunk or a body is, in whatever shape; None when it is none."""
    if isinstance(chunk, str):
        return ServerError(Seen.IN_STREAM, chunk[:4000], status)
    if not isinstance(chunk, Mapping):
        return None if chunk is None else ServerError(Seen.IN_STREAM, repr(chunk)[:4000], status)
    inner = chunk.get("error")
    if not inner and (is_error or chunk.get("object") == "error" or ("detail" in chunk and not chunk.get("choices"))):
        inner = chunk
    if not inner:
        return None
    if not isinstance(inner, Mapping):
        return ServerError(Seen.IN_STREAM, str(inner)[:4000], status)
    code = inner.get("code", chunk.get("code"))
    message = inner.get("message") or inner.get("detail") or json.dumps(dict(inner))
    if inner.get("n_prompt_tokens") and inner.get("n_ctx"):  # llama.cpp gives its figures apart
        message = f"{message} (n_prompt_tokens {inner['n_prompt_tokens']}, n_ctx {inner['n_ctx']})"
    return ServerError(
        seen=Seen.IN_STREAM,
        message=str(message)[:4000],
        status=status or _status(code) or _status(inner.get("status")),
        code=" ".join(str(each)[:200] for each in (code, inner.get("type")) if each is not None),
        param=str(inner.get("param") or "")[:200],
    )


def loads(data: bytes) -> Any:
    """The JSON in `data`; NaN and Infinity, which some servers write, are numbers. Raises: ValueError."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            return json.loads(data)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _first_choice(choices: Any) -> Mapping[str, Any] | None:
    rows = [row for row in choices if isinstance(row, Mapping)] if isinstance(choices, list) else []
    return next((row for row in rows if row.get("index", 0) in (0, None)), None)


def _text_of(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    inner = part.get("text", part.get("thinking"))
    return "".join(str(_text_of(each)) for each in inner) if isinstance(inner, list) else inner


def _count(value: Any, known: int | None) -> int | None:
    """A count of tokens; what was known where `value` is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return known
    return int(value) if 0 <= value <= _MAX_TOKENS and value == int(value) else known


def _status(code: Any) -> int:
    """An HTTP status, 0 where `code` is none."""
    number = code if isinstance(code, int) else int(code) if isinstance(code, str) and code.isdecimal() else 0
    return number if 300 <= number < 600 else 0
