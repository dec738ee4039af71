"""The whole pipeline, in this process, on a model server that grants so many calls a second and refuses the others in bursts."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from conclave.engine.openai_engine import OpenAIEngine
from conclave.policies.current import CurrentPolicies
from conclave.runtime.attempts import Dependencies
from conclave.runtime.broker import Broker, LogReader
from conclave.runtime.record import output_of
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings
from conclave.runtime.work import Handles, Joins, Work
from conclave.testing.waiting import until
from schemas import codec, flow
from schemas.events import AnswerReached, PathDecoded, PathFailed, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id
from services.aggregator.joiner import Aggregator
from services.aggregator.settings import AggregatorSettings
from services.decoder.handler import Decoder
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings
from services.voter.joiner import Voter
from services.voter.settings import VoterSettings
from tests.misbehaving_server import GOOD, Exchange, MisbehavingServer, http

_LATENCY_S = 0.05
_OPEN_S = 0.5  # of each second; in the rest of it every call is refused
_REFUSED = '{"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}'


@dataclass
class RateLimited:
    """Takes `limit` calls in the first `open_s` of each second, and refuses all others with 429 and, if told, the time left."""

    limit: int
    tells_when: bool = True
    open_s: float = _OPEN_S
    began: float = field(default_factory=time.monotonic)
    taken: list[float] = field(default_factory=list)
    num_refused: int = 0
    _second: int = -1
    _num_taken: int = 0

    async def __call__(self, call: Exchange) -> None:
        """The reply to a call."""
        second, within_s = divmod(time.monotonic() - self.began, 1.0)
        if second != self._second:
            self._second, self._num_taken = int(second), 0
        if within_s >= self.open_s or self._num_taken >= self.limit:
            self.num_refused += 1
            when = {"retry_after_ms": f"{1000 * (1.0 - within_s):.0f}"} if self.tells_when else {}
            await http(429, _REFUSED, **when)(call)
            return
        self._num_taken += 1
        self.taken.append(time.monotonic())
        await asyncio.sleep(_LATENCY_S)
        await GOOD(call)


@dataclass
class Heard:
    """What the log says: ends of requests and of samples, and how many records were given up."""

    answers: dict[str, AnswerReached | RequestFailed] = field(default_factory=dict)
    paths: list[PathDecoded | PathFailed] = field(default_factory=list)
    num_dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """What became of the requests. `used` is the share of the calls that the limit allowed while the server was there."""

    heard: Heard
    num_taken: int
    num_refused: int
    used: float

    @property
    def answers(self) -> Mapping[str, AnswerReached | RequestFailed]:
        """What ended each request."""
        return self.heard.answers


async def run(
    brokers: Callable[[str], Broker],
    *,
    num_requests: int,
    limit: int,
    outage_s: float,
    tells_when: bool = True,
    open_s: float = _OPEN_S,
) -> Run:
    """Publishes requests of one sample each, and stops the server for a while once a third of them is answered.

    `brokers` makes each process's way to the broker, by the process's name.
    """
    limited = RateLimited(limit, tells_when, open_s)
    server = MisbehavingServer([limited])
    await server.start()
    try:
        async with _services(brokers, server.url), _hearing(brokers("reader").log_reader()) as heard:
            limited.began = time.monotonic()
            await _publish(brokers("producer"), num_requests)
            await until(lambda: len(heard.answers) >= num_requests / 3, limit_s=120, what="a third of the answers")
            await server.stop()
            await asyncio.sleep(outage_s)
            await server.start()
            await until(lambda: len(heard.answers) == num_requests, limit_s=240, what="all answers")
    finally:
        await server.stop()
    taken = limited.taken[1:]  # without the one that tried the server at start
    lasted_s = taken[-1] - taken[0] - outage_s
    return Run(heard, len(taken), limited.num_refused, len(taken) / (limit * max(1.0, lasted_s)))


async def _publish(broker: Broker, num_requests: int) -> None:
    now_ms = time.time_ns() // 1_000_000
    requests = [
        ReasoningRequested(question=f"What is 6 times 7? ({i})", request_id=new_request_id(), max_samples=1)
        for i in range(num_requests)
    ]
    producer = broker.plain_producer()
    await producer.start()
    try:
        await producer.publish(
            [
                output_of(each, service="test", event_id=str(each.request_id), parent=None, now_ms=now_ms)
                for each in requests
            ]
        )
    finally:
        await producer.stop()


@asynccontextmanager
async def _hearing(reader: LogReader) -> AsyncIterator[Heard]:
    heard = Heard()
    await reader.start()
    topics = [Topic.ANSWERS.value, Topic.PATHS.value, *(flow.dead_letter_topic(topic) for topic in Topic)]
    partitions = [tp for topic in topics for tp in await reader.partitions(topic)]
    reader.assign(await reader.begin_offsets(partitions))
    hearing = asyncio.create_task(_hear(reader, heard), name="hear")
    try:
        yield heard
    finally:
        hearing.cancel()
        await asyncio.wait({hearing})
        await reader.stop()


async def _hear(reader: LogReader, heard: Heard) -> None:
    while True:
        for record in await reader.poll(timeout_ms=200):
            if record.topic.endswith(flow.DEAD_LETTER_SUFFIX):
                heard.num_dead_letters += 1
                continue
            event = codec.read(record.topic, record.headers, record.value)
            if isinstance(event, AnswerReached | RequestFailed):
                heard.answers[event.request_id] = event
            elif isinstance(event, PathDecoded | PathFailed):
                heard.paths.append(event)


@asynccontextmanager
async def _services(brokers: Callable[[str], Broker], url: str) -> AsyncIterator[None]:
    """Every service that an answer needs, in this process, ready."""
    settings = RuntimeSettings(bootstrap_servers="given", session_timeout_ms=6000, drain_s=1.0)
    decomposer = Decomposer(DecomposerSettings(), CurrentPolicies("instruct"))
    engine = OpenAIEngine("m", url, max_running=32)
    await engine.start()
    decoder = Decoder(engine)
    works: dict[str, Work] = {
        "decomposer": Handles(decomposer, request_key=decomposer.request_key),
        "decoder": Handles(decoder, may_take=decoder.may_take),
        "voter": Joins(Voter(VoterSettings())),
        "aggregator": Joins(Aggregator(AggregatorSettings())),
    }
    services = [Service(name, settings, work, Dependencies(), brokers(name)) for name, work in works.items()]
    try:
        async with asyncio.TaskGroup() as tasks:
            for service in services:
                tasks.create_task(service.run())
            try:
                await until(lambda: all(each.is_ready for each in services), limit_s=60, what="readiness")
                yield
            finally:
                for service in services:
                    service.stop()
    finally:
        await engine.stop()
