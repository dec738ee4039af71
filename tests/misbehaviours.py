"""The ways in which model servers are known to misbehave: the table of tests/unit/test_engine_conformance.py.

A row of CASES is (what the server does, what must become of the sample); of BARRED, where a setting is at fault, (what the server
does, the setting that is named, what is said).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from schemas.values import FinishReason, PathFailure
from tests.misbehaving_server import (
    GOOD,
    USAGE,
    Exchange,
    Reply,
    chunk,
    chunked,
    error,
    hang_up,
    http,
    raw,
    reset,
    silence,
    stream,
    then,
)


@dataclass(frozen=True)
class Ends:
    """What must become of a sample: an answer (None: a path without one), or a failure; in so many calls at most."""

    answer: str | None = None
    failure: PathFailure | None = None
    finish: FinishReason | None = None
    calls: int = 1
    says: str = ""
    within_s: float = 10.0
    after_s: float = 0.0
    left_s: float = 600.0


def answers(answer: str | None = "42", **more: Any) -> Ends:
    """It is decoded."""
    return Ends(answer=answer, **more)


def fails(failure: PathFailure, says: str = "", **more: Any) -> Ends:
    """It fails."""
    return Ends(failure=failure, says=says, **more)


def waits(says: str) -> Ends:
    """It is tried until its deadline, and says why it was in vain."""
    return Ends(failure=PathFailure.DEADLINE, says=says, calls=1000, left_s=0.6, after_s=0.55)


TOO_LONG, FILTERED = PathFailure.PROMPT_TOO_LONG, PathFailure.CONTENT_FILTERED
TWICE, THRICE = answers(calls=2), answers(calls=3)
BUSY = error(429, "Rate limit reached for requests", code="rate_limit_exceeded")
TEXT = chunk("6 * 7 = 42.\nAnswer: 42")
STOP = chunk(finish="stop")


def _said(*events: Any, **more: Any) -> Reply:
    """The good answer with something else about it."""
    return stream(TEXT, *events, **more)


def _http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


async def _told_date(call: Exchange) -> None:
    await http(429, "{}", Retry_After=_http_date(2), Date=_http_date(1))(call)


def _logprobs(*values: Any) -> dict[str, Any]:
    entries = [{"token": "x", "logprob": value} for value in values]
    return {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": entries}, "finish_reason": None}]}


def _usage(prompt: Any, completion: Any) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def _nan(text: str) -> str:
    return json.dumps(_logprobs("?")).replace('"?"', text)


def refuses(name: str, message: str, status: int = 400, **fields: object) -> Reply:
    """Refuses a parameter of a call that has it, and takes one without."""

    async def reply(call: Exchange) -> None:
        await (error(status, message, **fields) if name in call.body else GOOD)(call)

    return reply


async def _no_system_role(call: Exchange) -> None:
    roles = {message["role"] for message in call.body["messages"]}
    await (error(400, "System role not supported") if "system" in roles else GOOD)(call)


async def _no_length(call: Exchange) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        if name in call.body:
            return await error(400, f"Unsupported parameter: '{name}'", param=name)(call)
    return await GOOD(call)


async def _short_answers(call: Exchange) -> None:
    said = (
        "max_tokens is too large: 2048. This model supports at most 1024 completion tokens, whereas you provided 2048."
    )
    await (error(400, said, param="max_tokens") if call.body["max_tokens"] > 1024 else GOOD)(call)


WHOLE = {"choices": [{"index": 0, "message": {"content": "Answer: 42"}, "finish_reason": "stop"}], "usage": {}}


async def _no_streams(call: Exchange) -> None:
    said = "Your organization must be verified to stream this model."
    refused = error(400, said, param="stream", code="unsupported_value")
    await (refused if call.body.get("stream") else http(200, json.dumps(WHOLE)))(call)


CASES: dict[str, tuple[Sequence[Reply], Ends]] = {
    # The server is busy: everyone pauses, nobody is charged.
    "429 twice": ([BUSY, BUSY, GOOD], THRICE),
    "429 with Retry-After in seconds": ([http(429, "{}", Retry_After="0.3"), GOOD], answers(calls=2, after_s=0.3)),
    "429 with retry-after-ms": ([http(429, "{}", retry_after_ms="300"), GOOD], answers(calls=2, after_s=0.3)),
    "429 with Retry-After as a date": ([_told_date, GOOD], answers(calls=2, after_s=0.9)),
    "429 with a rate limit's reset": (
        [http(429, "{}", x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="300ms"), GOOD],
        answers(calls=2, after_s=0.3),
    ),
    "429 with a Retry-After that is nonsense": ([http(429, "{}", Retry_After="soon"), GOOD], TWICE),
    "429 with a negative Retry-After": ([http(429, "{}", Retry_After="-5"), GOOD], TWICE),
    "429 in plain text": ([http(429, "slow down", "text/plain"), GOOD], TWICE),
    "429 for ever": ([BUSY], waits("Rate limit reached")),
    "529 overloaded": ([error(529, "Overloaded", type="overloaded_error"), GOOD], TWICE),
    "503 with Retry-After": ([http(503, "{}", Retry_After="0.3"), GOOD], answers(calls=2, after_s=0.3)),
    "500 the engine is overloaded": ([error(500, "The engine is currently overloaded"), GOOD], TWICE),
    "200 and nothing remains of the limit": (
        [_said(STOP, x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="1s")], answers()
    ),
    # The server is away, or on its way.
    "408": ([error(408, "Request Timeout"), GOOD], TWICE),
    "409": ([error(409, "Conflict"), GOOD], TWICE),
    "425": ([error(425, "Too Early"), GOOD], TWICE),
    "500": ([error(500, "Internal Server Error"), GOOD], TWICE),
    "500 as a page": ([http(500, "<html>Oops</html>", "text/html"), GOOD], TWICE),
    "502 of a proxy, again and again": ([http(502, "<h1>Bad Gateway</h1>", "text/html")] * 5 + [GOOD], answers(calls=12)),
    "503 loading model": ([error(503, "Loading model", type="unavailable_error")] * 3 + [GOOD], answers(calls=5)),
    "504": ([http(504, "upstream request timeout", "text/plain"), GOOD], TWICE),
    "500 for ever": ([error(500, "CUDA error: an illegal memory access was encountered")], waits("illegal memory access")),
    "hangs up": ([hang_up, GOOD], answers(calls=3)),
    "resets the connection": ([reset, GOOD], answers(calls=3)),
    "hangs up for ever": ([hang_up], waits("CONCLAVE_OPENAI_BASE_URL")),
    "never answers": ([silence], waits("no answer within")),
    "answers after it fell silent once": ([silence, GOOD], TWICE),
    "no HTTP at all": ([raw(b"SSH-2.0-OpenSSH_9.6\r\n"), GOOD], answers(calls=3)),
    "a header that never ends": ([then(raw(b"HTTP/1.1 200 OK\r\nContent-Ty"), silence), GOOD], TWICE),
    # 200, and no stream.
    "200 and a log-in page": ([http(200, "<html><title>Sign in</title></html>", "text/html"), GOOD], TWICE),
    "200 and a log-in page for ever": ([http(200, "<html><title>Sign in</title></html>", "text/html")], waits("Sign in")),
    "200 and an empty body": ([stream(done=False), GOOD], TWICE),
    "200 and plain text": ([http(200, "OK", "text/plain"), GOOD], TWICE),
    "200 and JSON of something else": ([http(200, '{"status": "ok"}'), GOOD], TWICE),
    "200 and broken JSON": ([http(200, '{"choices": ['), GOOD], TWICE),
    "a stream of no JSON": ([stream("hello", done=False), GOOD], TWICE),
    "a stream of bytes that are no UTF-8": ([stream(b"data: \xff\xfe\n\n", done=False), GOOD], TWICE),
    "a whole completion instead of a stream": ([http(200, json.dumps(WHOLE))], answers()),
    # A stream that breaks off.
    "a clean end without a finish reason": ([stream(chunk("6 * 7 = 42.\nAnswer: 4"), done=False), GOOD], TWICE),
    "a cut in HTTP's chunks": (
        [chunked(b'data: {"choices": [{"index": 0, "delta": {"content": "Answer: 4"}}]}\n\n', is_ended=False), GOOD],
        TWICE,
    ),
    "a cut within a character": ([stream(chunk("Answer: 4"), b'data: {"choices": [{"delta": {"content": "\xc3'), GOOD], TWICE),
    "a reset after the first words": ([then(stream(chunk("Answer: 4"), done=False), reset), GOOD], TWICE),
    "silence after the first words": ([then(stream(chunk("Answer: 4"), done=False), silence), GOOD], TWICE),
    "cut for ever": ([stream(chunk("Answer: 4"), done=False)], waits("without a finish reason")),
    "finished, and cut before [DONE]": ([then(_said(STOP, done=False), reset)], answers()),
    "[DONE] without a finish reason": ([_said()], answers()),
    "a finish reason without [DONE]": ([_said(STOP, done=False)], answers()),
    # An error in the stream.
    "an error as an object": ([stream(TEXT, {"error": {"message": "CUDA out of memory", "code": 500}}), GOOD], TWICE),
    "an error as a string": ([stream(TEXT, {"error": "worker died"}), GOOD], TWICE),
    "an error as an event": ([stream(TEXT, b'event: error\ndata: {"message": "worker died"}\n\n'), GOOD], TWICE),
    "an error as vLLM had it": (
        [stream({"object": "error", "message": "engine is dead", "type": "BadRequestError", "code": 400}), GOOD], TWICE
    ),
    "an error that is a JSON string": ([stream('"internal error"'), GOOD], TWICE),
    "an error in a choice": (
        [stream({"choices": [{"index": 0, "delta": {}, "error": {"message": "upstream"}, "finish_reason": "error"}]}), GOOD],
        TWICE,
    ),
    "overloaded in the stream": ([stream({"error": {"type": "overloaded_error", "message": "Overloaded"}}), GOOD], TWICE),
    "an error of status 200": ([http(200, '{"error": {"message": "upstream is down", "code": 502}}'), GOOD], TWICE),
    "finish reason error": ([stream(TEXT, chunk(finish="error")), GOOD], TWICE),
    "an error that is null": ([stream({**TEXT, "error": None}, STOP)], answers()),
    # A parameter is refused: it is left out, or said in other words.
    "logprobs refused": ([refuses("logprobs", "logprobs are not supported by this model", param="logprobs")], TWICE),
    "logprobs refused by schema": (
        [refuses("logprobs", "[{'type': 'extra_forbidden', 'loc': ('body', 'logprobs')}]", 422)], TWICE
    ),
    "stream_options refused": ([refuses("stream_options", "Extra inputs are not permitted, field: 'stream_options'")], TWICE),
    "max_tokens refused": (
        [refuses("max_tokens", "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                  "'max_completion_tokens' instead.", param="max_tokens", code="unsupported_parameter")], TWICE
    ),
    "any length refused": ([_no_length], THRICE),
    "a length above the model's": ([_short_answers], TWICE),
    "temperature refused": (
        [refuses("temperature", "Unsupported value: 'temperature' does not support 0.8 with this model. Only the default "
                  "(1) value is supported.", param="temperature", code="unsupported_value")], TWICE
    ),
    "top_p refused": ([refuses("top_p", "`temperature` and `top_p` cannot both be specified for this model.")], TWICE),
    "system role refused": ([_no_system_role], TWICE),
    "streaming refused": ([_no_streams], TWICE),
    "a parameter that nobody sent": ([error(400, "Unsupported parameter: 'seed'", param="seed")],
                                     fails(PathFailure.BAD_REQUEST, "'seed'")),
    # The prompt is too long, in the servers' words.
    "too long for vLLM, as it was": (
        [error(400, "This model's maximum context length is 4096 tokens. However, you requested 5100 tokens (3052 in the "
               "messages, 2048 in the completion). Please reduce the length of the messages or completion.")],
        fails(TOO_LONG, "prompt's 3052 tokens and an answer of up to 2048 are 5100; the model takes 4096"),
    ),
    "too long for vLLM, as it is": (
        [error(400, "This model's maximum context length is 4096 tokens. However, your prompt contains 6120 input tokens, which "
               "exceeds this limit even without any output tokens. (parameter=input_tokens, value=6120)")],
        fails(TOO_LONG, "has 6120 tokens; the model takes 4096"),
    ),
    "too long for vLLM, with its answer": (
        [error(400, "'max_tokens' or 'max_completion_tokens' is too large: 2048. This model's maximum context length is 4096 "
               "tokens and your request has 3052 input tokens (2048 > 4096 - 3052).")],
        fails(TOO_LONG, "are 5100; the model takes 4096"),
    ),
    "too long for SGLang": (
        [error(400, "Requested token count exceeds the model's maximum context length of 4096 tokens. You requested a total of "
               "5100 tokens: 3052 tokens from the input messages and 2048 tokens for the completion.")],
        fails(TOO_LONG, "are 5100; the model takes 4096"),
    ),
    "too long for SGLang, without its answer": (
        [error(400, "The input (6120 tokens) is longer than the model's context length (4096 tokens).")],
        fails(TOO_LONG, "has 6120 tokens; the model takes 4096"),
    ),
    "too long for llama.cpp": (
        [error(400, "request (6120 tokens) exceeds the available context size (4096 tokens), try increasing it",
               type="exceed_context_size_error", n_prompt_tokens=6120, n_ctx=4096)],
        fails(TOO_LONG, "has 6120 tokens; the model takes 4096"),
    ),
    "too long for llama.cpp, with figures apart": (
        [error(400, "the request exceeds the available context size. try increasing the context size or enable context shift",
               type="exceed_context_size_error", n_prompt_tokens=6120, n_ctx=4096)],
        fails(TOO_LONG, "has 6120 tokens; the model takes 4096"),
    ),
    "too long for TGI": (
        [http(422, json.dumps({"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: "
                               "3052 `inputs` tokens and 2048 `max_new_tokens`", "error_type": "validation"}))],
        fails(TOO_LONG, "are 5100; the model takes 4096"),
    ),
    "too long for OpenAI": (
        [error(400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. Please "
               "reduce the length of the messages.", code="context_length_exceeded", param="messages")],
        fails(TOO_LONG, "has 9001 tokens; the model takes 8192"),
    ),
    "too long, without figures": (
        [error(400, "Your input exceeds the context window of this model.", code="context_length_exceeded")],
        fails(TOO_LONG, "longer than the model takes: 400 Your input"),
    ),
    "413": ([http(413, "<h1>Request Entity Too Large</h1>", "text/html")], fails(TOO_LONG, "Too Large")),
    "too long, said in the stream": (
        [stream({"error": {"message": "The input (6120 tokens) is longer than the model's context length (4096 tokens)."}})],
        fails(TOO_LONG, "6120"),
    ),
    # The path is at fault, or the request.
    "content filter on the prompt": (
        [error(400, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
               code="content_filter")], fails(FILTERED, "management policy")
    ),
    "content filter on the answer": ([stream(chunk("Answer: 3"), chunk(finish="content_filter"))],
                                     answers(None, finish=FinishReason.CONTENT_FILTER)),
    "content filter that leaves nothing": ([stream(chunk(finish="content_filter"))], fails(FILTERED, "content filter")),
    "a refusal": ([stream(chunk(refusal="I can't help"), chunk(refusal=" with that."), STOP)],
                  fails(FILTERED, "I can't help with that.")),
    "flagged by moderation": ([error(403, "Input was flagged for: violence")], fails(FILTERED, "flagged")),
    "400 that nobody knows": ([error(400, "That won't do.")], fails(PathFailure.BAD_REQUEST, "That won't do.")),
    "422 that nobody knows": ([http(422, '{"detail": [{"msg": "value is not valid"}]}')],
                              fails(PathFailure.BAD_REQUEST, "not valid")),
    # What ends a path.
    "an empty answer": ([stream(STOP, _usage(36000, 0))], fails(PathFailure.NOTHING_SENT, "the server sent nothing")),
    "[DONE] and nothing else": ([stream()], fails(PathFailure.NOTHING_SENT, "the server sent nothing")),
    "cut at a number": ([stream(chunk("It is 12,500.\nAnswer: 12", "length"))], answers(None, finish=FinishReason.LENGTH)),
    "cut after the answer": (
        [stream(chunk("Answer: 12500\n\nHalf a rem", "length"))], answers("12500", finish=FinishReason.LENGTH)
    ),
    "tool calls": ([_said(chunk(finish="tool_calls", tool_calls=[{"index": 0}]))],
                   answers(None, finish=FinishReason.TOOL_CALLS)),
    "abort": ([_said(chunk(finish="abort"))], answers(None, finish=FinishReason.ABORT)),
    "a finish reason that nobody knows": ([_said(chunk(finish="whim"))], answers(None, finish=FinishReason.NONE)),
    "STOP in capitals": ([_said(chunk(finish="STOP"))], answers()),
    "a second choice": ([stream({"choices": [{"index": 1, "delta": {"content": "Answer: 7"}, "finish_reason": "length"}]},
                                TEXT, STOP)], answers()),
    # What is beside the point.
    "usage with a null": ([_said(STOP, _usage(12, None))], answers()),
    "usage missing": ([_said(STOP)], answers()),
    "usage negative and absurd": ([_said(STOP, _usage(-3, 10**30))], answers()),
    "usage as text": ([_said(STOP, _usage("12", [8]))], answers()),
    "usage is a list": ([_said(STOP, {"choices": [], "usage": [1]})], answers()),
    "usage first with details only": ([stream({"choices": [], "usage": {"prompt_tokens_details": {}}}, TEXT, STOP, USAGE)],
                                      answers()),
    "log probabilities with a null": ([_said(_logprobs(-0.1, None), STOP)], answers()),
    "log probabilities with NaN": ([_said(_nan("NaN"), STOP)], answers()),
    "log probabilities of minus infinity": ([_said(_nan("-Infinity"), STOP)], answers()),
    "log probabilities above 0": ([_said(_logprobs(1e-7, 3.0), STOP)], answers()),
    "log probabilities as text": ([_said(_logprobs("-0.1"), STOP)], answers()),
    "log probabilities of completions": (
        [_said({"choices": [{"index": 0, "delta": {}, "logprobs": {"token_logprobs": [-0.1, None]}}]}, STOP)], answers()
    ),
    "log probabilities as a list": ([_said({"choices": [{"index": 0, "delta": {}, "logprobs": [1]}]}, STOP)], answers()),
    "delta null": ([stream(TEXT, {"choices": [{"index": 0, "delta": None}]}, STOP)], answers()),
    "choices null": ([stream({"choices": None}, TEXT, STOP, {"choices": None, "usage": None})], answers()),
    "no choices at all": ([stream({"id": "x"}, TEXT, STOP)], answers()),
    "a choice that is null": ([stream({"choices": [None]}, TEXT, STOP)], answers()),
    "content in parts": ([stream(chunk([{"type": "text", "text": "Answer: 42"}], "stop"))], answers()),
    "comments and empty lines": ([stream(b": PROCESSING\n\n\n\n", TEXT, b"retry: 10\n\n", STOP)], answers()),
    "CRLF": ([stream(b'data: {"choices": [{"delta": {"content": "Answer: 42"}, "finish_reason": "stop"}]}\r\n\r\n')], answers()),
    "data without a blank": ([stream(b'data:{"choices":[{"delta":{"content":"Answer: 42"},"finish_reason":"stop"}]}\n\n')],
                             answers()),
    "a line separator in the text": ([stream(b'data: {"choices":[{"delta":{"content":"a\xe2\x80\xa8b\\nAnswer: 42"}}]}\n\n',
                                             STOP)], answers()),
    "a NUL and half a surrogate in the text": ([stream(chunk("\0 \ud800\nAnswer: 42"), STOP)], answers()),
    "a thought apart from the answer": ([stream(chunk(reasoning_content="Answer: 5?"), TEXT, STOP)], answers()),
    "a thought and no answer": ([stream(chunk(None, "length", reasoning="We need … Answer: 5 maybe"))],
                                answers(None, finish=FinishReason.LENGTH)),
}  # fmt: skip

BARRED: dict[str, tuple[Reply, str, str]] = {
    "no key": (error(401, "You didn't provide an API key."), "CONCLAVE_OPENAI_API_KEY", "provide an API key"),
    "a wrong key": (error(401, "Incorrect API key provided: sk-…", code="invalid_api_key"), "CONCLAVE_OPENAI_API_KEY", "401"),
    "a key that Google refuses": (error(400, "API key not valid."), "CONCLAVE_OPENAI_API_KEY", "not valid"),
    "forbidden": (http(403, "<h1>Forbidden</h1>", "text/html"), "CONCLAVE_OPENAI_API_KEY", "403"),
    "no such model": (error(404, "The model `m` does not exist.", code="model_not_found"), "CONCLAVE_MODEL", "`m` does not"),
    "no such model for Ollama": (error(404, 'model "m" not found, try pulling it first'), "CONCLAVE_MODEL", "pulling it"),
    "no such model, with 400": (error(400, "m is not a valid model ID"), "CONCLAVE_MODEL", "valid model"),
    "nothing at this address": (http(404, '{"detail": "Not Found"}'), "CONCLAVE_OPENAI_BASE_URL", "Not Found"),
    "no such method": (http(405, '{"detail": "Method Not Allowed"}'), "CONCLAVE_OPENAI_BASE_URL", "405"),
    "quota spent": (
        error(429, "You exceeded your current quota, please check your plan.", code="insufficient_quota"),
        "the account behind CONCLAVE_OPENAI_API_KEY", "quota",
    ),
    "payment required": (error(402, "Insufficient credits"), "the account behind CONCLAVE_OPENAI_API_KEY", "credits"),
}  # fmt: skip
