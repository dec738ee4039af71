"""What a question waits for that is asked behind hundreds of others: a decoder with the real runtime, in virtual time."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from conclave.domain import planning
from conclave.domain.priorities import PRIORITIES
from conclave.engine.scripted import ScriptedEngine
from conclave.runtime.attempts import Dependencies
from conclave.runtime.record import Tp, output_of
from conclave.runtime.service import Service
from conclave.runtime.work import Handles
from conclave.testing import events as made
from conclave.testing import laws
from conclave.testing.broker import MemoryBroker
from conclave.testing.cluster import Cluster
from conclave.testing.loop import VirtualLoop
from conclave.testing.network import Endpoint
from conclave.testing.processes import SETTINGS
from conclave.testing.simulation import quiet
from schemas import flow
from schemas.events import PathDecoded
from schemas.flow import Topic
from schemas.ids import derived_request_id
from schemas.values import StepContext
from services.decoder.handler import Decoder

_PATH_S, _MAX_RUNNING, _NUM_SAMPLES, _NUM_PARTITIONS = 2.0, 64, 4, 4
_READ_AHEAD = 4096


class Decoding:
    """One decoder over four partitions. Paths take two seconds on average, 64 at a time."""

    def __init__(self, **settings: object) -> None:
        self.loop = VirtualLoop()  # type: ignore[abstract]
        topics = {row.topic.value: _NUM_PARTITIONS for row in flow.TOPICS}
        topics |= {flow.dead_letter_topic(topic): 1 for topic in topics}
        self.cluster = Cluster(self.loop, random.Random(0), topics, made.NOW_MS)
        self.engine = ScriptedEngine(latency_ms=1000 * _PATH_S, max_running=_MAX_RUNNING)
        self._settings = SETTINGS.model_copy(update={"max_in_flight": _READ_AHEAD, "drain_s": 60.0, **settings})
        self._num_asked = 0
        self._read: dict[Tp, int] = {}
        self._decoded: list[PathDecoded] = []

    def run(self, play: Callable[[], Awaitable[None]]) -> None:
        with quiet():
            self.loop.run_until_complete(self.decoder(play))

    async def decoder(self, play: Callable[[], Awaitable[None]]) -> None:
        """A decoder, for as long as `play` takes; then what runs comes to its end."""
        decoder = Decoder(self.engine)
        self.status = decoder.status
        service = Service(
            "decoder",
            self._settings,
            Handles(decoder, may_take=decoder.may_take, drain=decoder.drain),
            Dependencies(),
            MemoryBroker(self.cluster, Endpoint("decoder")),
            clock_ms=lambda: self.cluster.now_ms,
        )
        running = asyncio.create_task(service.run(), name="decoder")
        await play()
        service.stop()
        await running

    def ask(self, num_questions: int, priority: str, tenant: str = "", question: str = "2+2?") -> list[str]:
        """Has each question's first samples decoded, and gives the ids of the requests."""
        self._num_asked += num_questions
        ids: list[str] = [
            derived_request_id(made.NOW_MS, f"{self._num_asked - number}") for number in range(num_questions)
        ]
        self.cluster.publish(
            output_of(sample, service="test", event_id=f"{request_id}-{at}", parent=None, now_ms=self.cluster.now_ms)
            for request_id in ids
            for at, sample in enumerate(
                planning.wave(self._context(request_id, priority, tenant, question), 0, _NUM_SAMPLES)
            )
        )
        return ids

    def decoded(self) -> list[PathDecoded]:
        for tp in self.cluster.topic(Topic.PATHS.value):
            records, self._read[tp] = self.cluster.partitions[tp].read(
                self._read.get(tp, 0), self.cluster.partitions[tp].end
            )
            self._decoded += [each for each in laws.events(records) if isinstance(each, PathDecoded)]
        return self._decoded

    async def until_decoded(self, request_ids: Sequence[str], *, limit_s: float = 600.0) -> float:
        """Virtual seconds until all samples of these requests are decoded."""
        began_s, wanted = self.loop.time(), set(request_ids)
        while self.loop.time() - began_s < limit_s:
            if sum(each.context.request_id in wanted for each in self.decoded()) == _NUM_SAMPLES * len(wanted):
                return self.loop.time() - began_s
            await asyncio.sleep(0.5)
        raise AssertionError(f"not decoded within {limit_s:.0f} virtual seconds")

    def _context(self, request_id: str, priority: str, tenant: str, question: str) -> StepContext:
        deadline_ms = made.NOW_MS + 86_400_000
        context = made.context(request_id=request_id, deadline_ms=deadline_ms, fields={"question": question})
        return replace(context, priority=priority, tenant=tenant)


def _wait_of_a_question(*, priority: str) -> float:
    """Virtual seconds that a question takes which is asked a second after 500 standard ones."""
    decoding, took_s = Decoding(), []

    async def play() -> None:
        decoding.ask(500, "standard")
        await asyncio.sleep(1.0)
        took_s.append(await decoding.until_decoded(decoding.ask(1, priority)))

    decoding.run(play)
    return took_s[0]


def test_a_question_that_somebody_waits_for_overtakes_five_hundred_and_without_a_class_waits_for_all() -> None:
    everything_s = 500 * _NUM_SAMPLES * _PATH_S / _MAX_RUNNING
    assert _wait_of_a_question(priority="standard") > 0.8 * everything_s
    # Its own four paths take 4.2 s on average, the longest of four exponentials; a place is free in 0.03 s.
    assert _wait_of_a_question(priority="interactive") < 0.25 * everything_s


def test_with_all_classes_at_work_each_has_its_share_and_none_starves() -> None:
    decoding = Decoding()
    got: list[Counter[str]] = []

    async def play() -> None:
        for priority in PRIORITIES:
            decoding.ask(300, priority)
        await asyncio.sleep(30.0)
        got.append(Counter(each.context.priority for each in decoding.decoded()))

    decoding.run(play)
    whole, weights = sum(got[0].values()), sum(PRIORITIES.values())
    assert whole > 600
    for priority, weight in PRIORITIES.items():
        assert abs(got[0][priority] / whole - weight / weights) < 0.08, (priority, got)


def test_what_waits_when_a_decoder_ends_is_decoded_once_by_the_next_and_nothing_that_runs_is_cut() -> None:
    decoding = Decoding()
    asked: list[str] = []

    async def begin() -> None:
        asked.extend(decoding.ask(60, "batch"))
        await asyncio.sleep(1.0)

    async def finish() -> None:
        await decoding.until_decoded(asked)

    with quiet():
        decoding.loop.run(decoding.decoder(begin))
        num_first = decoding.engine.num_started
        decoding.loop.run_until_complete(decoding.decoder(finish))
    assert _MAX_RUNNING <= num_first < 60 * _NUM_SAMPLES
    assert decoding.engine.num_started == 60 * _NUM_SAMPLES


def test_what_is_read_ahead_is_bounded_in_bytes_and_all_of_it_is_decoded() -> None:
    decoding, open_at_once = Decoding(max_in_flight_mib=1), []

    async def play() -> None:
        asked = decoding.ask(1, "batch", question="4" * 16_000)
        await asyncio.sleep(1.0)
        asked += decoding.ask(40, "batch", question="5" * 16_000)
        for _ in range(20):
            status = decoding.status()
            open_at_once.append(int(str(status["engine_running"])) + int(str(status["engine_waiting"])))
            await asyncio.sleep(0.5)
        await decoding.until_decoded(asked)

    decoding.run(play)
    num_fit = (1 << 20) // 16_000
    assert 0.8 * num_fit <= max(open_at_once) <= num_fit + 1
