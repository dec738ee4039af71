"""Who waits for the end of a request, and is woken when it is heard on `reasoning.answers`."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.events import AnswerReached, Event, RequestFailed

End = AnswerReached | RequestFailed


class Answers:
    """Listener to `reasoning.answers`. What is heard while nobody waits is let go: the record has it."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[End]]] = defaultdict(set)

    @property
    def num_waiting(self) -> int:
        """How many wait now."""
        return sum(map(len, self._waiting.values()))

    def hear(self, event: Event) -> None:
        """Wakes all who wait for the end of this request."""
        if isinstance(event, AnswerReached | RequestFailed):
            for future in self._waiting.get(event.request_id, ()):
                if not future.done():
                    future.set_result(event)

    @contextmanager
    def expecting(self, request_id: str) -> Iterator["asyncio.Future[End]"]:
        """The end of a request, once it is heard. Enter before the request is published: then no end is missed."""
        future: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._waiting[request_id].add(future)
        try:
            yield future
        finally:
            future.cancel()
            self._waiting[request_id].discard(future)
            if not self._waiting[request_id]:
                del self._waiting[request_id]
