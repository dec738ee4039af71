"""A path that loops, or is less sure than its siblings, is broken off while it is decoded."""

import json
from collections.abc import Sequence

from conclave.domain.path_watch import Bar, BrokenOff, Watch
from conclave.engine.chat_path import finish_reason_of
from conclave.engine.chat_stream import Chat
from schemas.values import FinishReason


def chunk(text: str, logprob: float | None = None, name: str = "content") -> bytes:
    said = {} if logprob is None else {"logprobs": {"content": [{"token": text, "logprob": logprob}]}}
    return json.dumps({"choices": [{"index": 0, "delta": {name: text}, "finish_reason": None} | said]}).encode()


def fed(chat: Chat, chunks: Sequence[bytes]) -> int:
    """The number of chunks that were taken before nothing more had to come."""
    for number, each in enumerate(chunks):
        if chat.is_whole:
            return number
        chat.event("", each)
    return len(chunks)


def test_a_stream_that_loops_is_broken_off_and_what_it_said_stays() -> None:
    chat = Chat(watch=Watch())
    taken = fed(chat, [chunk("So: "), *[chunk("Wait, let me check. ")] * 400])
    assert taken < 200
    assert (chat.aborted, finish_reason_of(chat)) == (BrokenOff.LOOPS, FinishReason.ABORT)
    assert chat.text.startswith("So: Wait, let me check. Wait")


def test_a_thought_that_loops_is_broken_off_too() -> None:
    chat = Chat(watch=Watch())
    assert fed(chat, [chunk("hm, hm, hm, no. ", name="reasoning_content")] * 400) < 200
    assert (chat.aborted, chat.text) == (BrokenOff.LOOPS, "")


def test_a_stream_that_is_unsure_is_broken_off_where_its_server_says_log_probabilities() -> None:
    chat = Chat(watch=Watch(Bar(16, -1.0)))
    taken = fed(chat, [*[chunk("a", -0.1)] * 32, *[chunk("b", -4.0)] * 100])
    assert (taken, chat.aborted) == (48, BrokenOff.UNSURE)
    silent = Chat(watch=Watch(Bar(16, -1.0)))
    assert fed(silent, [chunk(f"{number} ") for number in range(100)]) == 100
    assert silent.aborted is None


def test_a_stream_that_is_not_watched_may_say_anything() -> None:
    chat = Chat()
    assert fed(chat, [chunk("again and again ")] * 300) == 300
    assert chat.aborted is None
