"""Requests of which nobody knows whether the log has them: they run for no one, and are lost to no one."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx2
import pytest

from conclave.errors import LostDependency
from conclave.runtime.record import Output
from conclave.testing.waiting import until
from schemas.events import Event, ReasoningRequested
from schemas.ids import new_request_id
from services.gateway.publishing import LogWriter, NotSent
from tests import chats
from tests.gateway_in_memory import World

QUESTION = {"question": "What is 6 times 6?"}
CHAT = {"model": "conclave", "messages": chats.ASKED}


@dataclass
class Unsure(World):
    """Its log has every request, and `then` happens before it can say so."""

    then: Callable[[], Awaitable[None]] = field(default_factory=lambda: _lose)

    async def publish(self, event: Event, *, event_id: str | None = None, traceparent: str | None = None) -> None:
        await super().publish(event, event_id=event_id, traceparent=traceparent)
        if isinstance(event, ReasoningRequested):
            await self.then()


async def _lose() -> None:
    raise LostDependency("kafka", "it did not answer in time")


async def _fail() -> None:
    raise ValueError("a mistake of ours")


async def _hang() -> None:
    await asyncio.Event().wait()


async def _not_sent() -> None:
    raise NotSent("kafka", "nobody is there")


def _asked(world: World) -> list[str]:
    return [str(request.request_id) for request in chats.requests_of(world)]


@pytest.mark.parametrize(("path", "body"), [("/v1/requests", QUESTION), ("/v1/chat/completions", CHAT)])
@pytest.mark.parametrize(("then", "status"), [(_lose, 503), (_fail, 500)])
async def test_what_its_client_is_told_to_have_failed_is_cancelled(
    path: str, body: dict[str, object], then: Callable[[], Awaitable[None]], status: int
) -> None:
    world = Unsure(then=then)
    async with world.serving() as client:
        assert (await client.post(path, json=body)).status_code == status
        await until(lambda: chats.cancelled_of(world) == _asked(world), what="its cancellation")
    assert len(_asked(world)) == 1


async def test_what_its_client_can_ask_again_under_its_key_goes_on() -> None:
    world, headers = Unsure(), {"Idempotency-Key": "order-7"}
    async with world.serving() as client:
        assert (await client.post("/v1/requests", json=QUESTION, headers=headers)).status_code == 503
        again = await client.post("/v1/requests", json=QUESTION, headers=headers)
    assert (again.status_code, [again.json()["id"]]) == (202, _asked(world))
    assert (chats.cancelled_of(world), world.cancellations.noted) == ([], {})


@pytest.mark.parametrize("key", [None, "order-7"])
async def test_what_a_gateway_that_stops_was_about_to_take_is_cancelled_unless_its_client_can_come_back(
    key: str | None,
) -> None:
    world, headers = Unsure(then=_hang), {} if key is None else {"Idempotency-Key": key}
    async with world.serving() as client:
        asked = asyncio.create_task(client.post("/v1/requests", json=QUESTION, headers=headers))
        await until(lambda: len(_asked(world)) == 1, what="the request")
    with pytest.raises(httpx2.TransportError):
        await asked
    assert list(world.cancellations.noted) == ([] if key else _asked(world))


@pytest.mark.parametrize("key", [None, "order-7"])
async def test_what_its_client_gave_up_before_it_knew_the_id_is_cancelled_unless_it_can_come_back(
    key: str | None,
) -> None:
    has_left = asyncio.Event()

    async def wait() -> None:
        await has_left.wait()

    world, headers = Unsure(then=wait), {} if key is None else {"Idempotency-Key": key}
    async with world.serving() as client:
        with pytest.raises(httpx2.ReadTimeout):
            await client.post("/v1/requests", json=QUESTION, headers=headers, timeout=0.3)
        await client.get("/v1/models")  # by then the gateway has heard that the other connection is closed
        has_left.set()
        if key is None:
            await until(lambda: chats.cancelled_of(world) == _asked(world), what="its cancellation")
        else:
            assert (await client.get(f"/v1/requests/{_asked(world)[0]}")).json()["status"] == "running"
    assert len(_asked(world)) == 1
    assert chats.cancelled_of(world) == ([] if key else _asked(world))


async def test_a_visitor_s_question_that_failed_is_cancelled() -> None:
    world = Unsure()
    asking, _ = world._parts()
    asked = ReasoningRequested(request_id=new_request_id(), question="What is 6 times 6?")
    with pytest.raises(LostDependency):
        await asking.publish_for_page(asked)
    assert list(world.cancellations.noted) == _asked(world) == [str(asked.request_id)]


async def test_what_never_reached_the_log_needs_no_cancellation() -> None:
    world = Unsure(then=_not_sent)
    async with world.serving() as client:
        assert (await client.post("/v1/requests", json=QUESTION)).status_code == 503
    assert (chats.cancelled_of(world), world.cancellations.noted) == ([], {})
    assert world.ledger.entries == {}


class Away:
    """A broker that nobody can connect to, and that takes its time to say so."""

    def __init__(self) -> None:
        self.num_tries, self.num_stopped, self.is_known = 0, 0, asyncio.Event()

    def plain_producer(self) -> "Away":
        return self

    async def start(self) -> None:
        self.num_tries += 1
        await self.is_known.wait()
        raise LostDependency("kafka", "nobody is there")

    async def publish(self, outputs: list[Output]) -> None:
        raise AssertionError("it never began")

    async def stop(self) -> None:
        self.num_stopped += 1


def _publishing(writer: LogWriter, number: int) -> list["asyncio.Task[None]"]:
    asked = ReasoningRequested(request_id=new_request_id(), question="1 + 1")
    return [asyncio.create_task(writer.publish(asked)) for _ in range(number)]


async def test_who_waits_for_a_log_that_can_not_be_connected_to_waits_for_one_try_and_was_sent_nothing() -> None:
    broker = Away()
    writer = LogWriter(broker)  # type: ignore[arg-type]
    publishing = _publishing(writer, 100)
    await until(lambda: broker.num_tries == 1, what="a try")
    broker.is_known.set()
    ends = await asyncio.gather(*publishing, return_exceptions=True)
    assert {(type(end), str(end)) for end in ends} == {(NotSent, "kafka is away: nobody is there")}
    assert (broker.num_tries, broker.num_stopped) == (1, 1)
    with pytest.raises(NotSent):
        await writer.publish(ReasoningRequested(request_id=new_request_id(), question="1 + 1"))
    assert broker.num_tries == 2, "who comes later has a try of its own"


async def test_a_try_to_connect_that_is_broken_off_leaves_no_connection_and_the_next_one_tries() -> None:
    broker = Away()
    first, second = _publishing(LogWriter(broker), 2)  # type: ignore[arg-type]
    await until(lambda: broker.num_tries == 1, what="a try")
    first.cancel()
    await until(lambda: broker.num_tries == 2, what="another try")
    assert broker.num_stopped == 1
    broker.is_known.set()
    with pytest.raises(NotSent):
        await second
    assert first.cancelled()
