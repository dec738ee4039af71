"""The runtime on a real broker: transactions, fencing, duplicates, retries, dead letters, order, back-pressure."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from conclave.domain.joining import Decision, Wait
from conclave.errors import Fenced, LostDependency, Rejected, Retryable
from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime.client import Client
from conclave.runtime.dead_letters import Cause
from conclave.runtime.handler import Arrival
from conclave.runtime.kafka import Admin, LogReader, TransactionalProducer
from conclave.runtime.record import Output, Tp
from conclave.runtime.topics import ensure_topics
from conclave.runtime.transaction import transact
from conclave.runtime.work import Handles, Joins
from conclave.testing import events as made
from conclave.testing.pipeline import read_log
from conclave.testing.waiting import until, until_async
from schemas.envelope import header
from schemas.events import AnswerReached, Event, PlanMade, ReasoningRequested, RequestFailed, StepDecided
from schemas.flow import Topic
from schemas.ids import new_request_id
from schemas.values import Outcome, RequestFailure, StopReason
from tests.integration.conftest import finish
from tests.integration.services_in_process import running

PARTITIONS = 4


@pytest.fixture(scope="module")
def broker(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """A broker with the pipeline's topics, of this module alone."""
    broker = KafkaBroker(session_dir / "kafka-runtime", jars_dir=jars_dir)
    finish(broker.start())
    finish(ensure_topics(str(broker.endpoint), partitions=PARTITIONS))
    yield broker
    finish(broker.stop())


@pytest.fixture
async def client(broker: KafkaBroker) -> AsyncIterator[Client]:
    """A client of the module's broker."""
    async with Client(str(broker.endpoint)) as client:
        yield client


class Mute:
    """A handler that says nothing when it gives up."""

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        return []

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        return []


@dataclass
class Failing(Mute):
    """A handler that answers each request with RequestFailed, after as many errors as the question's first word says."""

    calls: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    error: type[Exception] | None = None

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        assert isinstance(event, ReasoningRequested)
        assert event.request_id is not None
        self.calls[event.request_id] += 1
        self.order.append(event.question)
        num_errors = int(event.question.split()[0])
        if self.calls[event.request_id] <= num_errors:
            if self.error is Rejected:
                raise Rejected("$.question", "another one", event.question)
            raise Retryable("the test", "it was told to") if self.error is None else self.error("told to")
        return [RequestFailed(request_id=event.request_id, failure=RequestFailure.INVALID, message=event.question)]


def _key(event: Event, arrival: Arrival) -> str | None:
    return event.request_id if isinstance(event, ReasoningRequested) else None


def _asked(question: str) -> ReasoningRequested:
    return ReasoningRequested(question=question, request_id=new_request_id())


async def _answers(client: Client, request_ids: set[str]) -> Counter[str]:
    """How often each of the requests was answered, up to the log's end, once all were."""
    counts: Counter[str] = Counter()

    async def are_all_answered() -> bool:
        counts.clear()
        for _, event, _ in await read_log(client.brokers, [Topic.ANSWERS]):
            if isinstance(event, AnswerReached | RequestFailed) and event.request_id in request_ids:
                counts[event.request_id] += 1
        return set(counts) == request_ids

    await until_async(are_all_answered, what=f"{len(request_ids)} answers")
    return counts


async def test_a_newer_holder_of_a_partition_fences_the_older_and_its_output_is_never_seen(broker: KafkaBroker) -> None:
    address, group, tp = str(broker.endpoint), "fencing-test", Tp(Topic.REQUESTS.value, 0)
    zombie, owner = (TransactionalProducer(address, "conclave.fencing-test") for _ in range(2))
    output = Output(Topic.FEEDBACK.value, b"k", b"zombie", ())
    await zombie.open()
    await transact(zombie, [], group, {tp: (1, "")})
    await owner.open()
    with pytest.raises((Fenced, LostDependency)):
        await transact(zombie, [output], group, {tp: (99, "zombie")})
    await transact(owner, [Output(Topic.FEEDBACK.value, b"k", b"owner", ())], group, {tp: (2, "1:AQ==")})
    async with Admin(address) as admin:
        assert await admin.committed(group, [tp]) == {tp: (2, "1:AQ==")}
    reader = LogReader(address)
    await reader.start()
    partitions = await reader.partitions(Topic.FEEDBACK.value)
    reader.assign(dict.fromkeys(partitions, 0))
    values: list[bytes | None] = []
    async with asyncio.timeout(20):
        while b"owner" not in values:
            values += [record.value for record in await reader.poll(timeout_ms=200)]
    assert values == [b"owner"]
    for part in (reader, zombie, owner):
        await (part.stop() if isinstance(part, LogReader) else part.close())


async def test_a_fencing_leaves_no_future_behind_whose_exception_nobody_has_retrieved(broker: KafkaBroker) -> None:
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["message"]))
    output = Output(Topic.FEEDBACK.value, b"k", b"zombie", ())
    older, newer = (TransactionalProducer(str(broker.endpoint), "conclave.unretrieved") for _ in range(2))
    await older.open()
    await older.begin()
    await older.send([output])
    await older.acknowledged()
    await newer.open()
    await older.send([output] * 20)  # under way when it is fenced, and awaited by nobody
    with pytest.raises((Fenced, LostDependency)):
        await older.commit()
    await older.close()
    await newer.close()
    del older, newer
    gc.collect()
    assert heard == []


async def test_a_request_published_twice_is_handled_once_also_across_a_restart(
    broker: KafkaBroker, client: Client
) -> None:
    requests = [_asked(f"0 twice {i}") for i in range(40)]
    handler = Failing()
    work = Handles(handler, request_key=_key)
    async with running("decomposer", str(broker.endpoint), work):
        await client.publish_many([*requests, *requests[::2]])
        await _answers(client, {str(request.request_id) for request in requests})
    async with running("decomposer", str(broker.endpoint), work):
        fresh = _asked("0 fresh")
        await client.publish_many([*requests, fresh])
        ids = {str(request.request_id) for request in [*requests, fresh]}
        counts = await _answers(client, ids)
    assert counts == dict.fromkeys(ids, 1)
    assert set(handler.calls.values()) == {1}


async def test_a_failing_message_is_tried_again_and_then_dead_lettered(broker: KafkaBroker, client: Client) -> None:
    passing, hopeless = _asked("2 passing"), _asked("99 hopeless")
    handler = Failing()
    async with running("decomposer", str(broker.endpoint), Handles(handler), retry_backoff_s=0.01):
        await client.publish_many([passing, hopeless])
        assert await _answers(client, {str(passing.request_id)}) == {passing.request_id: 1}
        await until_async(lambda: _has_letter(client, "99 hopeless"), what="the dead letter")
    assert handler.calls[str(passing.request_id)] == 3
    assert handler.calls[str(hopeless.request_id)] == 4
    letter = await _letter(client, "99 hopeless")
    assert await client.dead_letter(letter.id) == letter, "it is found where it lies"
    assert await client.dead_letter(f"{Topic.REQUESTS.value}.dead-letters/0/{10**12}") is None
    assert (letter.reason, letter.source_topic) == ("retries_exhausted", Topic.REQUESTS.value)
    assert header(letter.headers, "conclave-attempts") == "4"


@pytest.mark.parametrize(("error", "reason", "calls"), [(Rejected, "rejected", 1), (ZeroDivisionError, "handler", 4)])
async def test_a_rejected_or_broken_message_becomes_a_dead_letter_and_others_go_on(
    broker: KafkaBroker, client: Client, error: type[Exception], reason: str, calls: int
) -> None:
    bad, good = _asked(f"99 {reason}"), _asked("0 good")
    handler = Failing(error=error)
    async with running("decomposer", str(broker.endpoint), Handles(handler), retry_backoff_s=0.01):
        await client.publish_many([bad, good])
        await _answers(client, {str(good.request_id)})
        await until_async(lambda: _has_letter(client, f"99 {reason}"), what="the dead letter")
    assert (await _letter(client, f"99 {reason}")).reason == reason
    assert handler.calls[str(bad.request_id)] == calls


async def test_a_replayed_dead_letter_is_handled_although_its_id_was_seen(broker: KafkaBroker, client: Client) -> None:
    request = _asked("4 replayed")
    handler = Failing()
    work = Handles(handler, request_key=_key)
    async with running("decomposer", str(broker.endpoint), work, retry_backoff_s=0.01):
        await client.publish(request)
        await until_async(lambda: _has_letter(client, "4 replayed"), what="the dead letter")
        await client.replay(await _letter(client, "4 replayed"))
        assert await _answers(client, {str(request.request_id)}) == {request.request_id: 1}
    assert handler.calls[str(request.request_id)] == 5


async def test_no_more_than_the_allowed_number_of_messages_is_in_flight(broker: KafkaBroker, client: Client) -> None:
    release, running_now, most = asyncio.Event(), [0], [0]

    class Holding(Mute):
        async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
            running_now[0] += 1
            most[0] = max(most[0], running_now[0])
            await release.wait()
            running_now[0] -= 1
            handled.append(event)
            return []

    handled: list[Event] = []
    async with running("decomposer", str(broker.endpoint), Handles(Holding()), max_in_flight=8):
        await client.publish_many([_asked("0 x") for _ in range(100)])
        await until(lambda: running_now[0] == 8, what="eight in flight")
        release.set()
        await until(lambda: len(handled) == 100, what="all hundred")
    assert most[0] == 8


@dataclass
class Pairs:
    """Joins a plan and its verdict; forgets what it decided, as a crashed process would."""

    seen: Counter[str] = field(default_factory=Counter)

    def key(self, event: Event) -> str:
        assert isinstance(event, PlanMade | StepDecided)
        return event.request_id

    def join(self, events: Sequence[Event], now_ms: int) -> Decision | Wait:
        for event in events:
            self.seen[self.key(event)] += 1
        if {type(event) for event in events} != {PlanMade, StepDecided}:
            return Wait()
        failed = RequestFailed(request_id=self.key(events[0]), failure=RequestFailure.NO_ANSWER, message="pair")
        return Decision((failed,))

    def carry(self, events: Sequence[Event]) -> Event:
        return events[0]

    def give_up(self, events: Sequence[Event], cause: Cause, now_ms: int) -> Decision:
        return Decision()


def _plan(request: str) -> PlanMade:
    return replace(made.plan(), request_id=request)


def _verdict(request: str) -> StepDecided:
    return StepDecided(
        request_id=request,
        step_index=0,
        outcome=Outcome.NO_ANSWER,
        stop_reason=StopReason.EXHAUSTED,
        answer=None,
        confidence=0.0,
        margin=0.0,
        agreement=0.0,
        entropy=0.0,
        tally=(),
        ballots=(),
        launched=1,
        arm="a",
        policy="p",
        decided_ms=0,
    )


async def test_open_events_of_a_group_are_read_again_after_a_restart_and_decided_once(
    broker: KafkaBroker, client: Client
) -> None:
    requests = [str(new_request_id()) for _ in range(30)]
    joiner = Pairs()
    async with running("aggregator", str(broker.endpoint), Joins(joiner)):
        await client.publish_many([_plan(request) for request in requests])
        await client.publish_many([_verdict(request) for request in requests[:10]])
        await until(lambda: len(joiner.seen) == 30, what="all plans read")
        assert await _answers(client, set(requests[:10])) == dict.fromkeys(requests[:10], 1)
    again = Pairs()
    async with running("aggregator", str(broker.endpoint), Joins(again)):
        await client.publish_many([_verdict(request) for request in requests[10:]])
        assert await _answers(client, set(requests)) == dict.fromkeys(requests, 1)
    assert not set(again.seen) & set(requests[:10]), "a decided group was read again"


async def test_a_second_replica_takes_over_half_and_all_when_the_first_stops(
    broker: KafkaBroker, client: Client
) -> None:
    first, second = Failing(), Failing()
    async with running("decomposer", str(broker.endpoint), Handles(first)) as one:
        async with running("decomposer", str(broker.endpoint), Handles(second)) as two:
            await until(
                lambda: len(one.partitions) == len(two.partitions) == PARTITIONS // 2 and one.is_ready,
                what="a fair share",
            )
            requests = [_asked("0 shared") for _ in range(100)]
            await client.publish_many(requests)
            assert set((await _answers(client, {str(r.request_id) for r in requests})).values()) == {1}
            assert first.calls
            assert second.calls
        await until(lambda: len(one.partitions) == PARTITIONS and one.is_ready, what="all partitions with the first")
        more = [_asked("0 alone") for _ in range(20)]
        await client.publish_many(more)
        assert set((await _answers(client, {str(r.request_id) for r in more})).values()) == {1}


async def _letter(client: Client, text: str):  # type: ignore[no-untyped-def]
    letters = [letter for letter in await client.dead_letters(Topic.REQUESTS) if text.encode() in (letter.value or b"")]
    return letters[-1] if letters else None


async def _has_letter(client: Client, text: str) -> bool:
    return await _letter(client, text) is not None
