"""How a server wants to be asked: what it has refused is left out, or said in other words, from then on.

A stop string that a server does not take is looked for here instead: see conclave.engine.chat_stream.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from conclave.engine.protocol import DecodeRequest
from conclave.engine.server_errors import ServerError
from conclave.prompts import Message


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one server and model take. It only ever takes less, so a call is adapted a bounded number of times."""

    logprobs: bool = True
    stream_options: bool = True
    stream: bool = True
    temperature: bool = True
    top_p: bool = True
    system_role: bool = True
    max_stops: int | None = None
    answer_format: str | None = "json_schema"  # then json_object, then none
    length_name: str | None = "max_tokens"  # then max_completion_tokens, then none
    max_length: int | None = None

    def arguments(self, model: str, request: DecodeRequest) -> dict[str, Any]:
        """The arguments of a chat completion."""
        messages = request.messages if self.system_role else _without_system(request.messages)
        stops = request.stop[: self.max_stops] if self.max_stops is not None else request.stop
        length = min(request.max_tokens, self.max_length or request.max_tokens)
        optional: Mapping[str, tuple[bool, Any]] = {
            "logprobs": (self.logprobs, True),
            "stream": (self.stream, True),
            "stream_options": (self.stream and self.stream_options, {"include_usage": True}),
            "temperature": (self.temperature, request.temperature),
            "top_p": (self.top_p, request.top_p),
            "stop": (bool(stops), list(stops)),
            "response_format": (bool(request.json_schema and self.answer_format), self._response_format(request)),
        }
        arguments = {name: value for name, (is_said, value) in optional.items() if is_said}
        if self.length_name is not None:
            arguments[self.length_name] = length
        chat = [{"role": message.role, "content": message.content} for message in messages]
        return {"model": model, "messages": chat, **arguments}

    def _response_format(self, request: DecodeRequest) -> dict[str, Any]:
        """How the answer is to be written."""
        if not request.json_schema or self.answer_format != "json_schema":
            return {"type": self.answer_format}
        schema = msgspec.json.decode(request.json_schema)
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}

    def untold_stops(self, request: DecodeRequest) -> tuple[str, ...]:
        """The stop strings that the server was not told of."""
        return request.stop[self.max_stops :] if self.max_stops is not None else ()

    def differences(self) -> dict[str, object]:
        """What the server takes otherwise than others, for the log."""
        usual = Dialect()
        return {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) != getattr(usual, name)}


def learn(dialect: Dialect, error: ServerError) -> Dialect | None:
    """The dialect without what `error` refuses; None when it refuses nothing that could be left out."""
    for row in _ROWS:
        if row.says.search(error.param or error.words) and (learned := row.adapt(dialect, error)) != dialect:
            return learned
    return learn(dialect, replace(error, param="")) if error.param else None


def _without_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same chat with what the system says put before what the user says first."""
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    others = [message for message in messages if message.role != "system"]
    if not system or not others:
        return tuple(others) or tuple(Message("user", message.content) for message in messages)
    return (Message(others[0].role, f"{system}\n\n{others[0].content}"), *others[1:])


def _longest(dialect: Dialect, error: ServerError) -> Dialect:
    """Answers no longer than the server says that it allows."""
    for pattern in _LONGEST:
        found = pattern.search(error.words)
        if found:
            return replace(dialect, max_length=int(found[1]))
    return dialect


def _other_length(dialect: Dialect, error: ServerError) -> Dialect:
    following = {"max_tokens": "max_completion_tokens", "max_completion_tokens": None, None: None}
    return replace(dialect, length_name=following[dialect.length_name])


def _fewer_stops(dialect: Dialect, error: ServerError) -> Dialect:
    found = _MOST_STOPS.search(error.words)
    most = int(found[1] or found[2]) if found else 0
    return replace(dialect, max_stops=most if dialect.max_stops is None or most < dialect.max_stops else 0)


def _other_format(dialect: Dialect, error: ServerError) -> Dialect:
    following = {"json_schema": "json_object", "json_object": None, None: None}
    return replace(dialect, answer_format=following[dialect.answer_format])


_LONGEST = (
    re.compile(r"at most (\d+) (?:completion|output|new) tokens", re.IGNORECASE),
    re.compile(
        r"max_(?:completion_)?tokens\W{1,3}(?:must be |should be )?less than or equal to \W?(\d+)", re.IGNORECASE
    ),
    re.compile(r"max_(?:completion_)?tokens: \d+ > (\d+)", re.IGNORECASE),
    re.compile(r"valid range of max_(?:completion_)?tokens is \[\d+, ?(\d+)\]", re.IGNORECASE),
)
_MOST_STOPS = re.compile(r"(?:at most|up to|maximum(?: length| of)?|no more than|<=) (\d+)|(\d+) stop", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Row:
    says: re.Pattern[str]
    adapt: Callable[[Dialect, ServerError], Dialect]


def _row(says: str, adapt: Callable[[Dialect, ServerError], Dialect]) -> _Row:
    return _Row(re.compile(says, re.IGNORECASE), adapt)


_ROWS: tuple[_Row, ...] = (
    _row(r"response_format|json_schema|json_object|structured.?outputs?|guided", _other_format),
    _row(r"\b(top_)?log_?probs?\b|log probabilit", lambda dialect, _: replace(dialect, logprobs=False)),
    _row(r"stream_options|include_usage", lambda dialect, _: replace(dialect, stream_options=False)),
    _row(r"max_(completion_|new_)?tokens", _longest),
    _row(r"max_(completion_|new_)?tokens", _other_length),
    _row(r"\btop_p\b", lambda dialect, _: replace(dialect, top_p=False)),
    _row(r"\btemperature\b", lambda dialect, _: replace(dialect, temperature=False)),
    _row(
        r"\bsystem\b.{0,20}\b(role|messages?|prompts?|instruction)|role.{0,60}\bsystem\b|roles must alternate|messages\[0\]\.role"
        r"|developer instruction",
        lambda dialect, _: replace(dialect, system_role=False),
    ),
    _row(r"\bstop(_sequences?|_strings?)?\b|stop (sequences?|strings?)", _fewer_stops),
    _row(r"\bstream(ing|ed)?\b", lambda dialect, _: replace(dialect, stream=False)),
)
