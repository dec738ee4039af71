"""The parts of dealing with a model server that need none: what is told in headers and words, and the breaker's arithmetic."""

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.engine.chat_stream import Chat, Events, StreamFailed
from conclave.engine.dialect import Dialect, learn
from conclave.engine.prompt_lengths import Lengths, lengths
from conclave.engine.protocol import DecodeRequest
from conclave.engine.server_errors import TABLE, Remedy, Seen, ServerError, row_of
from conclave.engine.told_pauses import spent_limit_s, told_pause_s
from conclave.prompts import Message

NOW_S = 1_795_470_000.0  # 2026-11-23 21:00:00 UTC


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "Mon, 23 Nov 2026 21:20:10 GMT", "date": "Mon, 23 Nov 2026 21:20:00 GMT"}, 10.0),
        ({"retry-after": "Mon, 23 Nov 2026 21:19:00 GMT", "date": "Mon, 23 Nov 2026 21:20:00 GMT"}, 0.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m2.5s"}, 62.5),
        ({"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW_S + 5)}, 5.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(round((NOW_S + 5) * 1000))}, 5.0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "9"}, 9.0),
    ],
)
def test_what_a_server_asks_for_is_understood(headers: dict[str, str], pause_s: float | None) -> None:
    assert told_pause_s(headers, now_s=NOW_S) == pytest.approx(pause_s)


@given(
    st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date", "x-ratelimit-reset-requests"]), st.text())
)
def test_no_header_is_too_strange(headers: dict[str, str]) -> None:
    headers["x-ratelimit-remaining-requests"] = "0"
    for pause_s in (told_pause_s(headers, now_s=NOW_S), spent_limit_s(headers, now_s=NOW_S)):
        assert pause_s is None or pause_s >= 0


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("maximum context length is 4,097 tokens, however you requested 4,116 tokens (3,860 in your prompt; 256 for the "
         "completion)", Lengths(3860, 4097, 256)),
        ("This endpoint's maximum context length is 4096 tokens. However, you requested about 5100 tokens (3052 of text input, "
         "2048 in the output)", Lengths(3052, 4096, 2048)),
        ("This model's maximum context length is 4096 tokens. However, your request has 6120 input tokens.", Lengths(6120, 4096)),
        ("This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input tokens",
         Lengths(4097, 4096)),
        ("This model's maximum context length is 4096 tokens. However, your prompt contains 90000 characters (more than 65536 "
         "characters, which is the upper bound for 4096 input tokens).", Lengths(None, 4096)),
        ("This model's maximum context length is 4096 tokens. However, you requested 100 output tokens and your prompt contains at "
         "least 3997 input tokens, for a total of at least 4097 tokens.", Lengths(3997, 4096, 100)),
        ("You passed 5001 input tokens and requested 100 output tokens. However, the model's context length is only 4096 tokens, "
         "resulting in a maximum input length of 3996 tokens.", Lengths(5001, 4096, 100)),
        ("The decoder prompt (length 6120) is longer than the maximum model length of 4096.", Lengths(6120, 4096)),
        ("The decoder prompt (length 4096) plus the number of requested output tokens (at least 1) is longer than the maximum "
         "model length of 4096.", Lengths(4096, 4096)),
        ("Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens). Use a shorter input",
         Lengths(160062, 59862)),
        ("Input validation error: `inputs` must have less than 1024 tokens. Given: 2000", Lengths(2000, 1024)),
        ("prompt is too long: 210000 tokens > 200000 maximum", Lengths(210000, 200000)),
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", Lengths(1200000, 1048576)),
        ("Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
         Lengths(40000, 32768)),
        ("Please reduce the length of the messages or completion.", Lengths()),
        ("Trying to keep the first 6120 tokens when context the overflows. However, the model is loaded with context length of "
         "only 4096 tokens", Lengths(None, 4096)),
    ],
)  # fmt: skip
def test_a_prompt_that_is_too_long_is_known_in_every_servers_words(words: str, found: Lengths) -> None:
    assert row_of(ServerError(Seen.STATUS, words, 400)).remedy is Remedy.PROMPT_TOO_LONG
    assert lengths(words) == found


@pytest.mark.parametrize(
    ("words", "param"),
    [
        (
            "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 6.",
            "stop",
        ),
        (
            "Invalid 'stop[0]': string too long. Expected a string with maximum length 64, but got one with length 80.",
            "stop[0]",
        ),
        ("max_tokens is too large: 100000. This model supports at most 16384 completion tokens.", "max_tokens"),
    ],
)
def test_what_else_is_too_long_is_no_prompt_that_is_too_long(words: str, param: str) -> None:
    error = ServerError(Seen.STATUS, words, 400, code="string_above_max_length", param=param)
    assert row_of(error).remedy is not Remedy.PROMPT_TOO_LONG


@given(st.sampled_from(Seen), st.text(max_size=80), st.integers(0, 999), st.text(max_size=20), st.text(max_size=20))
def test_every_error_has_a_row(seen: Seen, message: str, status: int, code: str, param: str) -> None:
    assert row_of(ServerError(seen, message, status, code, param)) is not None


def test_no_words_take_long_to_understand() -> None:
    worst = [
        each * (4000 // len(each))
        for each in ("model ", "api key ", "maximum context length is 1 tokens ", "x ", "(1 ")
    ]
    started = time.perf_counter()
    for words in worst:
        row_of(ServerError(Seen.STATUS, words, 400))
    assert time.perf_counter() - started < 0.5


def test_every_setting_at_fault_is_named() -> None:
    assert all(bool(row.setting) is (row.remedy is Remedy.MEND_SETTING) for row in TABLE)


@pytest.mark.parametrize(
    ("message", "param", "learnt"),
    [
        ("Invalid 'stop': array too long. Expected an array with maximum length 4, but got 6", "stop", {"max_stops": 4}),
        ("Only up to 4 stop sequences are allowed", "", {"max_stops": 4}),
        ("`max_tokens` must be less than or equal to `8192`", "", {"max_length": 8192}),
        ("max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens", "", {"max_length": 64000}),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", "", {"max_length": 8192}),
        ("Unsupported value: 'messages[0].role' does not support 'system' with this model.", "messages[0].role",
         {"system_role": False}),
        ("Conversation roles must alternate user/assistant/user/assistant/...", "", {"system_role": False}),
        ("logprobs is not supported with tools + stream", "", {"logprobs": False}),
    ],
)  # fmt: skip
def test_what_a_server_refuses_is_left_out_or_said_otherwise(
    message: str, param: str, learnt: dict[str, object]
) -> None:
    dialect = learn(Dialect(), ServerError(Seen.STATUS, message, 400, param=param))
    assert dialect is not None
    assert dialect.differences() == learnt


def test_without_a_system_role_the_user_says_it_all() -> None:
    request = DecodeRequest("s", (Message("system", "Be brief."), Message("user", "2+2?")))
    arguments = Dialect(system_role=False).arguments("m", request)
    assert arguments["messages"] == [{"role": "user", "content": "Be brief.\n\n2+2?"}]


@given(st.text(max_size=200), st.text(max_size=40))
def test_a_dialect_is_learnt_in_a_bounded_number_of_words(message: str, param: str) -> None:
    dialect: Dialect | None = Dialect()
    for _ in range(len(Dialect.__slots__) * 3):
        dialect = learn(dialect, ServerError(Seen.STATUS, message, 400, param=param)) if dialect else None
    assert dialect is None


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_events_are_the_same_however_the_bytes_arrive(data: bytes, cuts: list[int]) -> None:
    def read(*pieces: bytes) -> list[tuple[str, bytes]]:
        events = Events()
        return [event for piece in pieces for event in events.feed(piece)] + list(events.end())

    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert read(*(data[begin:end] for begin, end in pairwise(places))) == read(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "delta", "content", "logprobs", "logprob", "usage", "prompt_tokens", "finish_reason", "error",
                         "index", "message", "reasoning", "text", "type", "token_logprobs", "tokens", "token",
                         "code"]), inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_no_chunk_is_too_strange(value: object) -> None:
    chat = Chat()
    try:
        chat.chunk(value, is_error=False)
    except StreamFailed:
        return
    assert all(-100 <= each <= 0 for each in chat.logprobs)
    assert len(chat.pieces) == len(chat.logprobs)
    assert all(isinstance(piece, str) for piece in chat.pieces)
    assert chat.tokens_in is None or 0 <= chat.tokens_in <= 10**8
    assert isinstance(chat.text + chat.thought, str)


@pytest.mark.parametrize(
    "logprobs",
    [
        {"content": [{"token": "4", "logprob": -0.5}, {"token": "2", "logprob": None}, {"token": ".", "logprob": -1}]},
        {"token_logprobs": [-0.5, None, -1], "tokens": ["4", "2", "."]},
    ],
)
def test_a_token_without_a_log_probability_is_passed_over_with_its_text(logprobs: dict[str, object]) -> None:
    chat = Chat()
    chat.chunk({"choices": [{"index": 0, "delta": {"content": "42."}, "logprobs": logprobs}]}, is_error=False)
    assert (chat.logprobs, chat.pieces) == ([-0.5, -1.0], ["4", "."])


def test_an_answer_that_has_to_fit_a_schema_is_asked_for_in_the_way_that_the_server_takes() -> None:
    schema = '{"type":"object","properties":{"n":{"type":"integer"}}}'
    request = DecodeRequest("s", (Message("user", "q"),), json_schema=schema)
    told = []
    dialect: Dialect | None = Dialect()
    while dialect is not None:
        told.append(dialect.arguments("m", request).get("response_format"))
        error = ServerError(
            Seen.STATUS, "'response_format' is not supported by this model", 400, param="response_format"
        )
        dialect = learn(dialect, error)
    assert told == [
        {"type": "json_schema", "json_schema": {"name": "answer", "schema": json.loads(schema)}},
        {"type": "json_object"},
        None,
    ]
    assert "response_format" not in Dialect().arguments("m", DecodeRequest("s", (Message("user", "q"),)))
