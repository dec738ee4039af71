"""Who waits for the end of a request, and is woken when it is heard on `reasoning.answers` or found in the record."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.events import AnswerReached, Event, RequestFailed
from services.gateway import metrics
from services.gateway.results import Result, of_event


class Answers:
    """Listener to `reasoning.answers`. What is heard while nobody waits is let go: the record has it."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[Result]]] = defaultdict(set)

    @property
    def awaited(self) -> tuple[str, ...]:
        """The requests whose end is waited for."""
        return tuple(self._waiting)

    def hear(self, event: Event) -> None:
        """Wakes all who wait for the end of this request."""
        if isinstance(event, AnswerReached | RequestFailed) and event.request_id in self._waiting:
            self.tell(of_event(event))

    def tell(self, result: Result) -> None:
        """The same for an end that was found."""
        for future in self._waiting.get(result.request_id, ()):
            if not future.done():
                future.set_result(result)

    def fail(self, request_id: str, error: Exception) -> None:
        """Wakes all who wait for an end that can't be told."""
        for future in self._waiting.get(request_id, ()):
            if not future.done():
                future.set_exception(error)
                future.exception()  # whoever waits for several looks at one of them

    @contextmanager
    def expecting(self, request_id: str) -> Iterator["asyncio.Future[Result]"]:
        """The end of a request, once it is known. Enter before the request is published: then no end is missed."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[request_id].add(future)
        metrics.WAITING.set(len(self._waiting))
        try:
            yield future
        finally:
            future.cancel()
            self._waiting[request_id].discard(future)
            if not self._waiting[request_id]:
                del self._waiting[request_id]
            metrics.WAITING.set(len(self._waiting))
