"""A chat completion as a stream: chunks as OpenAI has them, the progress of every choice before the answers."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

from conclave.store.happenings import Happening
from services.gateway import streams
from services.gateway.bodies import ChatCompletion, StreamOptions, Usage
from services.gateway.conversations import in_words
from services.gateway.errors import ApiError
from services.gateway.follower import Follower, Watch
from services.gateway.results import Result, planned


class AskedChoice(NamedTuple):
    """A choice's request, and the end that it will have."""

    request_id: str
    end: "asyncio.Future[Result]"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call asked: a request a choice."""

    choices: tuple[AskedChoice, ...]
    model: str
    ignored: tuple[str, ...]
    timeout_s: float
    created: int
    answer_schema: dict[str, Any] | None = None

    @property
    def request_ids(self) -> tuple[str, ...]:
        """By choice."""
        return tuple(each.request_id for each in self.choices)

    @property
    def ends(self) -> tuple["asyncio.Future[Result]", ...]:
        """By choice."""
        return tuple(each.end for each in self.choices)

    @property
    def id(self) -> str:
        """The completion's id: the first request's, told as OpenAI does."""
        return f"chatcmpl-{self.request_ids[0]}"


async def chunks(
    asked: Asked, follower: Follower, complete: Callable[[], ChatCompletion], *, options: StreamOptions | None
) -> AsyncGenerator[bytes, None]:
    """The chunks. Progress comes as `reasoning_content`, and in the field `conclave`.

    `complete` is called once the ends of all choices are known or the time is up, and may raise ApiError, which is told.
    """
    for index in range(len(asked.choices)):
        yield _chunk(asked, {"role": "assistant", "content": ""}, index=index)
    is_told = [False] * len(asked.choices)
    with ExitStack() as watching:
        watches = [watching.enter_context(follower.watching(request_id)) for request_id in asked.request_ids]
        async for happened in _progress(asked, watches):
            if happened is None:
                yield streams.KEEP_ALIVE
                continue
            index, happening = happened
            is_told[index] = True
            yield _told(asked, happening, index)
    try:
        completion = complete()
    except ApiError as failed:
        yield streams.failed(failed)
        return
    for index, end in enumerate(asked.ends):
        if not is_told[index]:  # the answer was heard in the log before the record had anything of the way there
            yield _told(asked, planned(end.result()), index)
    for choice in completion.choices:
        yield _chunk(asked, {"content": choice.message.content}, index=choice.index)
    for choice in completion.choices:
        told = completion.conclave if choice.index == 0 else None
        yield _chunk(asked, {}, index=choice.index, finish_reason=choice.finish_reason, conclave=told)
    if options is not None and options.include_usage:
        yield _chunk(asked, None, usage=completion.usage)
    yield b"data: [DONE]\n\n"


async def _progress(asked: Asked, watches: Sequence[Watch]) -> AsyncGenerator[tuple[int, Happening] | None, None]:
    """Each thing that happens, and to which choice, until the ends of all are known or the time is up; None after a silence."""
    loop = asyncio.get_running_loop()
    until = loop.time() + asked.timeout_s
    whole = asyncio.create_task(streams.all_of(asked.ends), name="until all are done")
    news = {index: asyncio.create_task(watch.next(), name="news") for index, watch in enumerate(watches)}
    try:
        while not whole.done() and loop.time() < until:
            pause_s = min(streams.KEEP_ALIVE_S, until - loop.time())
            await asyncio.wait({whole, *news.values()}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            heard = {index: task.result() for index, task in news.items() if task.done()}
            for index, happening in heard.items():
                if isinstance(happening, Result):  # nothing more comes of this one; others may take longer
                    del news[index]
                else:
                    news[index] = asyncio.create_task(watches[index].next(), name="news")
                    yield index, happening
            if not heard and not whole.done():
                yield None
    finally:
        for task in (whole, *news.values()):
            task.cancel()
        await asyncio.wait({whole, *news.values()})


def _told(asked: Asked, happening: Happening, index: int) -> bytes:
    """The chunk that tells what happened to a choice."""
    told = {"progress": {"kind": happening.kind, **happening.data}}
    return _chunk(asked, {"reasoning_content": in_words(happening)}, index=index, conclave=told)


def _chunk(
    asked: Asked,
    delta: dict[str, Any] | None,
    *,
    index: int = 0,
    finish_reason: str | None = None,
    usage: Usage | None = None,
    conclave: object = None,
) -> bytes:
    """A chunk of a stream; without a delta, the last one, which has no choice."""
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    told: dict[str, Any] = {
        "id": asked.id,
        "object": "chat.completion.chunk",
        "created": asked.created,
        "model": asked.model,
        "choices": [] if delta is None else [choice],
    }
    if usage is not None:
        told["usage"] = usage
    if conclave is not None:
        told["conclave"] = conclave
    return streams.event(told)
