"""Remembered answers: a front in this process, the record behind it, and nothing that a request would have to wait for.

in the front, and lately checked     it, at once
else                                 the record is asked, by all who want something together, within a few milliseconds
too late, or away                    nothing is remembered; after some of it the record is left alone for a while
not known, but an equal question     its answer is waited for, within bounds: one computation answers both
  was begun here
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from conclave.domain.recall import Remembered, Wanted, is_worth_giving
from conclave.domain.recall.front import Front
from conclave.runtime import metrics

_QUERY_S = 2.0  # for all that was asked together: what comes later than a request's patience is kept all the same
_MAX_TOGETHER = 512
_LATE_IN_A_ROW, _LEFT_ALONE_S = 3, 1.0
_CHECKED_EVERY_S, _HOLDS_S = 2.0, 10.0  # the front, against what feedback has called wrong
_OVERLAP_MS = 120_000  # feedback is recorded a little after it was given
_LOOKED_AGAIN_S = 0.1  # for an answer that is waited for
_MAX_WAITING, _MAX_BEGUN = 64, 10_000

log = structlog.get_logger(__name__)


class Source(Protocol):
    """What the record holds: conclave.store.recollection.Recollection."""

    async def newest(self, tokens: Sequence[str], *, by_gist: bool, oldest_ms: int) -> dict[str, Remembered]: ...
    async def spoken_against(self, since_ms: int) -> set[str]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What a memory may take."""

    patience_s: float = 0.02  # that a request has with the record
    wait_s: float = 5.0  # for the answer to an equal question that is being thought about; 0: none is waited for
    front_bytes: int = 16 << 20
    eviction: str = "gdsf"
    lasting_s: float = 7 * 86_400.0  # what is older is not looked for


@dataclass(frozen=True, slots=True)
class _Begun:
    """A request that a question is being thought about for: where it lies, since when, and until when that may last."""

    at: str
    begun_ms: int
    until_s: float


class RecordedMemory:
    """conclave.domain.recall.Memory over a `Source`. `follow` must run beside it: without it nothing is remembered."""

    def __init__(
        self,
        source: Source,
        limits: Limits | None = None,
        *,
        clock_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._source, self._limits, self._clock_ms = source, limits or Limits(), clock_ms
        self._front: Front[Remembered] = Front(self._limits.front_bytes, self._limits.eviction)
        self._asked: dict[tuple[bool, str], asyncio.Future[Remembered | None]] = {}
        self._wake = asyncio.Event()
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        self._num_waiting = 0
        self._num_late, self._left_alone_until_s = 0, 0.0
        self._checked_s = float("-inf")
        self._away = ""

    async def recall(self, wanted: Wanted, now_ms: int) -> Remembered | None:
        """See conclave.domain.recall.Memory."""
        found = self._in_front(wanted, now_ms)
        if found is not None:
            return self._told("front", found)
        found = await self._recorded(wanted)
        if found is not None and is_worth_giving(found, wanted, now_ms):
            return self._told("record", found)
        begun_ms = self._begun_elsewhere_ms(wanted, now_ms)
        if begun_ms is None:
            return self._told("none", None)
        found = await self._waited_for(wanted, begun_ms)
        return self._told("none" if found is None else "waited", found)

    async def follow(self) -> None:
        """Asks the record for all that is wanted, and checks the front against feedback, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._answer(), name="recall")
            tasks.create_task(self._check(), name="recall-check")

    def status(self) -> dict[str, object]:
        """What /ready says; a record that is away is no reason not to be ready."""
        return {"recall": {"front": len(self._front), "front_bytes": self._front.num_bytes, "away": self._away}}

    # -- the front ----------------------------------------------------------------------------------------------------

    def _in_front(self, wanted: Wanted, now_ms: int) -> Remembered | None:
        """What is kept here, unless feedback could have spoken since without having been heard."""
        if self._loop_s() - self._checked_s > _HOLDS_S:
            return None
        found = self._front.get(_front_key(wanted))
        return found if found is not None and is_worth_giving(found, wanted, now_ms) else None

    async def _check(self) -> None:
        while True:
            try:
                await self._checked()
            except Exception as error:  # noqa: BLE001  (whatever the database says: then the front holds for a while)
                self._is_lost(error)
            await asyncio.sleep(_CHECKED_EVERY_S)

    async def _checked(self) -> None:
        async with asyncio.timeout(_QUERY_S):
            against = await self._source.spoken_against(self._clock_ms() - _OVERLAP_MS)
        self._front.drop_where(lambda each: each.request_id in against)
        self._checked_s = self._loop_s()
        self._is_back()

    # -- the record ---------------------------------------------------------------------------------------------------

    async def _recorded(self, wanted: Wanted) -> Remembered | None:
        """What the record tells within a request's patience, worth giving or not."""
        if self._loop_s() < self._left_alone_until_s:
            return None
        token = (not wanted.is_worded_alike, wanted.key)
        future = self._asked.get(token)
        if future is None:
            if len(self._asked) >= _MAX_TOGETHER:
                return None
            future = self._asked[token] = asyncio.get_running_loop().create_future()
            self._wake.set()
        try:
            async with asyncio.timeout(self._limits.patience_s):
                found = await asyncio.shield(future)  # others may want the same
        except TimeoutError:
            self._is_late()
            return None
        self._num_late = 0
        return found

    async def _answer(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked, self._asked = self._asked, {}
            for by_gist in (False, True):
                batch = {token: future for (is_gist, token), future in asked.items() if is_gist is by_gist}
                if batch:
                    await self._answer_together(batch, by_gist=by_gist)

    async def _answer_together(
        self, batch: Mapping[str, "asyncio.Future[Remembered | None]"], *, by_gist: bool
    ) -> None:
        found: Mapping[str, Remembered] = {}
        try:
            oldest_ms = self._clock_ms() - round(self._limits.lasting_s * 1000)
            async with asyncio.timeout(_QUERY_S):
                found = await self._source.newest(tuple(batch), by_gist=by_gist, oldest_ms=oldest_ms)
            self._is_back()
        except Exception as error:  # noqa: BLE001  (whatever the database says: then nothing is remembered)
            self._is_lost(error)
        finally:
            for token, future in batch.items():
                if not future.done():
                    future.set_result(found.get(token))
        for token, each in found.items():
            if not each.is_disliked:
                liking = 1.0 if each.liking is None else 2.0 * each.liking
                cost = float(max(1, each.tokens_out))
                self._front.put(f"{by_gist} {token}", each, num_bytes=each.num_bytes, cost=cost, liking=liking)

    def _is_late(self) -> None:
        self._num_late += 1
        if self._num_late >= _LATE_IN_A_ROW:
            self._num_late, self._left_alone_until_s = 0, self._loop_s() + _LEFT_ALONE_S

    def _is_lost(self, error: Exception) -> None:
        self._left_alone_until_s = self._loop_s() + _LEFT_ALONE_S
        if not self._away:
            log.warning("recall_away", why=repr(error)[:300])
        self._away = repr(error)[:300]

    def _is_back(self) -> None:
        if self._away:
            log.warning("recall_back")
        self._away = ""

    # -- equal questions in flight ------------------------------------------------------------------------------------

    def _begun_elsewhere_ms(self, wanted: Wanted, now_ms: int) -> int | None:
        """When another request has begun with an equal question here; None where this one begins with it now."""
        token, now_s = _front_key(wanted), self._loop_s()
        known = self._begun.get(token)
        if known is not None and now_s < known.until_s and self._limits.wait_s > 0.0:
            return None if known.at == wanted.at else known.begun_ms
        self._begun[token] = _Begun(wanted.at, now_ms, now_s + wanted.deadline_s)
        self._begun.move_to_end(token)
        while len(self._begun) > _MAX_BEGUN:
            self._begun.popitem(last=False)
        return None

    async def _waited_for(self, wanted: Wanted, begun_ms: int) -> Remembered | None:
        """The answer to the equal question once it is recorded; None when it is not worth giving, or does not come in time.

        Meanwhile the request's record stays open. Then nobody waits for that computation any more.
        """
        if self._num_waiting >= _MAX_WAITING:
            return None
        self._num_waiting += 1
        until_s = self._loop_s() + min(self._limits.wait_s, wanted.deadline_s / 4)
        try:
            while (left_s := until_s - self._loop_s()) > 0.0:
                await asyncio.sleep(min(_LOOKED_AGAIN_S, left_s))
                found = await self._recorded(wanted)
                if found is not None and found.answered_ms >= begun_ms:
                    return found if is_worth_giving(found, wanted, found.answered_ms) else None
            return None
        finally:
            self._begun.pop(_front_key(wanted), None)
            self._num_waiting -= 1

    @staticmethod
    def _told(where: str, found: Remembered | None) -> Remembered | None:
        metrics.RECALLS.labels(where).inc()
        return found

    @staticmethod
    def _loop_s() -> float:
        return asyncio.get_running_loop().time()


def _front_key(wanted: Wanted) -> str:
    return f"{not wanted.is_worded_alike} {wanted.key}"
