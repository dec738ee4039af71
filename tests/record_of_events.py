"""A record on a real server that events are put into one by one, at times of the test's choosing."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from conclave.domain.recorded import RecordedEvent
from conclave.store.learning import Learning
from conclave.store.store import Store
from conclave.testing import events as made
from schemas import flow
from schemas.events import Event, FeedbackGiven
from schemas.experiments import Assignment
from schemas.ids import derived_request_id

NOW_MS = int(time.time() * 1000)


class Recorded:
    """See the module's docstring."""

    def __init__(self, dsn: str) -> None:
        self.store, self.learning = Store(dsn), Learning(dsn)
        self._offsets: dict[str, int] = {}
        self._number = 0

    async def put(self, event: Event, *, at_ms: int = NOW_MS, event_id: str | None = None, source: str = "") -> None:
        """Records an event that lies next in its topic, at that time."""
        topic = flow.topic_of(type(event)).value
        offset = self._offsets.get(topic, 0)
        self._offsets[topic] = offset + 1
        recorded = RecordedEvent(
            event, event_id or f"{topic}/{offset}", flow.subject_of(event), topic, 0, offset, at_ms, None, source
        )
        await self.store.write([recorded], {(topic, 0): offset + 1})

    async def assigned(
        self, arm: str, *, age_s: float = 10.0, unit: str | None = None, version: int = 0, segment: str | None = None
    ) -> str:
        """The id of a request that was asked so long ago and assigned to an arm."""
        self._number += 1
        request_id = derived_request_id(NOW_MS - round(age_s * 1000), f"request {self._number}")
        assignment = Assignment(
            experiment="trial", revision=1, unit=unit or request_id, draw=self._number, segment=segment
        )
        plan = replace(made.plan(), request_id=request_id, arm=arm, weights_version=version, assignment=assignment)
        await self.put(plan)
        return request_id

    async def judged(self, request_id: str, reward: float | None, *, after_s: float = 1.0, **said: Any) -> None:
        """Feedback that came so long after its request."""
        asked_ms = int(request_id[:8] + request_id[9:13], 16)
        name, source = said.pop("event_id", None), said.pop("event_source", "")
        feedback = FeedbackGiven(request_id=request_id, reward=reward, **said)
        await self.put(feedback, at_ms=asked_ms + round(after_s * 1000), event_id=name, source=source)


@asynccontextmanager
async def empty_record(dsn: str) -> AsyncIterator[Recorded]:
    """An empty record, whose every partition 0 is claimed."""
    record = Recorded(dsn)
    try:
        await record.store.maintain(NOW_MS)
        await record.store.claim([(row.topic.value, 0) for row in flow.TOPICS])
        yield record
    finally:
        await record.store.close()
        await record.learning.close()
