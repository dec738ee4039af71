"""Follows requests in the record: what happens to those that someone watches, and ends that were not heard.

One loop for all of a gateway's clients, however many: each look is a handful of queries.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import structlog

from conclave.errors import LostDependency
from conclave.runtime.attempts import Dependencies
from conclave.store.happenings import Happening
from services.gateway.answers import Answers
from services.gateway.errors import ApiError
from services.gateway.failures import internal_error, surviving
from services.gateway.results import Result, of_row

_LOOK_S = 0.3
_LOOK_FOR_ENDS_EVERY = 7  # looks: an end that is not heard is rare

log = structlog.get_logger(__name__)


class Record(Protocol):
    """What is read: conclave.store.happenings.Happenings. Both raise LostDependency."""

    async def of(self, request_ids: Collection[str]) -> Mapping[str, list[Happening]]: ...
    async def ends(self, request_ids: Collection[str]) -> Mapping[str, dict[str, Any]]: ...
    async def request(self, request_id: str) -> dict[str, Any] | None: ...


class Watch:
    """One who watches a request. `next` hands over what is new, and at last, once, the end."""

    def __init__(self) -> None:
        self._new: asyncio.Queue[Happening | Result | ApiError] = asyncio.Queue()
        self._seen: set[str] = set()

    async def next(self) -> Happening | Result:
        """What happened next. Nothing comes after a Result. Raises: ApiError where what happened can't be read."""
        news = await self._new.get()
        if isinstance(news, ApiError):
            raise news
        return news

    def see(self, happenings: Collection[Happening]) -> bool:
        """Takes over what it has not seen; False when there was nothing new."""
        new = [each for each in happenings if each.name not in self._seen]
        for each in new:
            self._seen.add(each.name)
            self._new.put_nowait(each)
        return bool(new)

    def end(self, end: Result | ApiError) -> None:
        """Takes over the end, or why there is none to be told."""
        self._new.put_nowait(end)


class Follower:
    """See the module's docstring."""

    def __init__(
        self, record: Record, answers: Answers, dependencies: Dependencies, *, look_s: float = _LOOK_S
    ) -> None:
        self._record, self._answers, self._dependencies, self._look_s = record, answers, dependencies, look_s
        self._watches: dict[str, set[Watch]] = defaultdict(set)

    @contextmanager
    def watching(self, request_id: str) -> Iterator[Watch]:
        """All that has happened and happens to a request, from its beginning."""
        watch = Watch()
        self._watches[request_id].add(watch)
        try:
            yield watch
        finally:
            self._watches[request_id].discard(watch)
            if not self._watches[request_id]:
                del self._watches[request_id]

    async def run(self) -> None:
        """Looks, again and again, until cancelled."""
        num_looks = 0
        while True:
            started = time.monotonic()
            try:
                await self.look(for_ends=num_looks % _LOOK_FOR_ENDS_EVERY == 0)
                self._dependencies.back("postgres")
            except LostDependency as error:
                self._dependencies.lost(error.dependency, error.why)
            num_looks += 1
            # However many are watched, looking takes a fifth of the time at most.
            await asyncio.sleep(max(self._look_s, 4 * (time.monotonic() - started)))

    async def look(self, *, for_ends: bool = True) -> None:
        """Hands over what is new. A request of which something can't be read is followed no more. Raises: LostDependency."""
        wanted = {*self._watches, *(self._answers.awaited if for_ends else ())}
        try:
            await self._hand_over(wanted)
        except LostDependency:
            raise
        except Exception as error:
            log.exception("requests_unreadable", requests=len(wanted), error=type(error).__name__)
            for each in wanted:  # which of them it is about is not known
                with surviving("request_unreadable", request=each):
                    await self._hand_over_or_give_up(each)

    async def _hand_over_or_give_up(self, request_id: str) -> None:
        try:
            await self._hand_over({request_id})
        except LostDependency:
            raise
        except Exception:
            self._give_up(request_id)
            raise

    def _give_up(self, request_id: str) -> None:
        for watch in tuple(self._watches.get(request_id, ())):
            watch.end(internal_error())
            self._watches[request_id].discard(watch)
        self._answers.fail(request_id, internal_error())

    async def _hand_over(self, request_ids: Collection[str]) -> None:
        ends = await self._record.ends(request_ids)
        watched = tuple(each for each in request_ids if each in self._watches)
        happenings = await self._record.of(watched)
        for request_id in watched:
            for watch in tuple(self._watches.get(request_id, ())):
                # What is read after an end may still be new: the record has several writers. The end is told last.
                is_news = watch.see(happenings.get(request_id, ()))
                if not is_news and request_id in ends:
                    watch.end(of_row(ends[request_id]))
                    self._watches[request_id].discard(watch)
        for row in ends.values():
            self._answers.tell(of_row(row))
