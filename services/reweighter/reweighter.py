"""The loop around the pure function: read the record, keep the next version, publish what is kept.

A look at a running experiment:
    1. the newest version that is kept, and the evidence in one snapshot of the record
    2. the next version, if there is anything new to say (conclave.domain.experiments.reweighting)
    3. keep it: of several reweighters, the first to keep a number has it, and the others read it back
    4. publish the newest version that is kept, unless this process has published it already

A crash between 3 and 4 leaves a version that is kept and not published: the next process publishes it first of all. A version
published twice has the same number, event id and content, and changes nothing.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

import structlog

from conclave.domain.experiments.evidence import Evidence
from conclave.domain.experiments.reweighting import next_weights
from conclave.errors import LostDependency
from conclave.experiments.changes import began_at, newest
from conclave.runtime.attempts import Dependencies
from conclave.runtime.broker import Broker, PlainProducer
from conclave.runtime.clock import ClockMs, wall_clock_ms
from conclave.runtime.record import output_of
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.experiments import Change
from schemas.ids import derived_event_id

_NAME = "reweighter"
_AWAY_S = 1.0

log = structlog.get_logger(__name__)


class Learning(Protocol):
    """Where evidence is read and versions are kept: conclave.store.learning.Learning."""

    async def changes(self, experiment: str = "") -> list[ExperimentChanged]:
        """Everything that was done to experiments."""
        ...

    async def latest(self, experiment: str) -> WeightsPublished | None:
        """The newest version that is kept."""
        ...

    async def keep(self, weights: WeightsPublished, now_ms: int) -> bool:
        """False when another version of that number was kept before."""
        ...

    async def evidence(
        self, change: ExperimentChanged, *, since_ms: int, as_of_ms: int, after: WeightsPublished | None = None
    ) -> tuple[Evidence, Mapping[str, int]]:
        """The counts of a run, for the version after that one, and the recorder's offsets below which they were counted."""
        ...


class Reweighter:
    """See the module's docstring. A consumer of nothing: conclave.runtime.process.Consumer."""

    def __init__(
        self,
        learning: Learning,
        broker: Broker,
        dependencies: Dependencies,
        *,
        interval_s: float,
        clock_ms: ClockMs = wall_clock_ms,
    ) -> None:
        self._learning, self._broker, self._dependencies = learning, broker, dependencies
        self._interval_s, self._clock_ms = interval_s, clock_ms
        self._published: dict[str, int] = {}  # experiment -> version
        self._stopping = asyncio.Event()
        self._producer: PlainProducer | None = None
        self._running: list[str] = []
        self.is_ready = False

    def stop(self) -> None:
        """Has `run` finish the look in hand and return."""
        self._stopping.set()

    def status(self) -> dict[str, object]:
        """What /ready says."""
        return {"experiments": self._running, "published": dict(self._published)}

    async def run(self) -> None:
        """Looks at the record until `stop`."""
        try:
            while not self._stopping.is_set():
                await self._pause(await self._look_or_wait())
        finally:
            self.is_ready = False
            if self._producer is not None:
                await self._producer.stop()

    async def look(self) -> None:
        """Looks at every experiment that runs, once. Raises: LostDependency."""
        changes = await self._learning.changes()
        running = [each for each in newest(changes).values() if each.change is Change.START]
        for change in running:
            await self._look_at(change, began_at(change, changes))
        self._running = [change.experiment for change in running]

    async def _look_or_wait(self) -> float:
        """Seconds until the next look."""
        try:
            await self.look()
        except LostDependency as error:
            self._dependencies.lost(error.dependency, error.why)
            self.is_ready = False
            return _AWAY_S
        self._dependencies.back("postgres")
        self.is_ready = True
        return self._interval_s

    async def _look_at(self, change: ExperimentChanged, since_ms: int) -> None:
        previous = await self._learning.latest(change.experiment)  # 1
        evidence, watermark = await self._learning.evidence(
            change, since_ms=since_ms, as_of_ms=self._clock_ms(), after=previous
        )
        weights = next_weights(change, evidence, previous, watermark)  # 2
        if weights is not None and not await self._learning.keep(weights, self._clock_ms()):  # 3
            weights = await self._learning.latest(change.experiment)
        newest_kept = weights or previous
        if newest_kept is not None and self._published.get(change.experiment) != newest_kept.version:
            await self._publish(newest_kept)  # 4

    async def _publish(self, weights: WeightsPublished) -> None:
        event_id = derived_event_id(_NAME, weights.experiment, "WeightsPublished", weights.version)
        output = output_of(weights, service=_NAME, event_id=event_id, parent=None, now_ms=self._clock_ms())
        if self._producer is None:
            self._producer = await self._new_producer()
        await self._producer.publish([output])
        self._published[weights.experiment] = weights.version
        log.info(
            "weights_published",
            experiment=weights.experiment,
            version=weights.version,
            reason=weights.reason,
            spent_micro=weights.spent_micro,
            allocation=weights.allocation,
            winner=weights.winner,
            out=weights.out,
            ramp_since=weights.ramp_since,
            segments={segment: each.allocation for segment, each in weights.segments.items()},
        )

    async def _new_producer(self) -> PlainProducer:
        producer = self._broker.plain_producer()
        try:
            await producer.start()
        except LostDependency:
            await producer.stop()
            raise
        return producer

    async def _pause(self, seconds: float) -> None:
        """Returns after so long, or at once when it is to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
