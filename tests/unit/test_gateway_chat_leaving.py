"""What becomes of a chat that nobody waits for any more, and of one that is sent again."""

import asyncio
import json
import socket

import httpx2
import openai
import pytest
from prometheus_client import REGISTRY

from conclave.domain.api_keys import Scope
from conclave.errors import LostDependency
from conclave.store.happenings import Happening
from conclave.store.ledger import Limits
from conclave.testing import events as made
from conclave.testing.waiting import until
from schemas.events import Event, ReasoningRequested
from tests import batch_calls, chats
from tests.gateway_in_memory import World, answering


class Losing(World):
    """Its log takes one request, and is away when the second comes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lost: list[str] = []

    async def publish(self, event: Event, *, event_id: str | None = None, traceparent: str | None = None) -> None:
        if isinstance(event, ReasoningRequested) and len(chats.requests_of(self)) == 1:
            self.lost.append(str(event.request_id))
            raise LostDependency("kafka", "it is away")
        await super().publish(event, event_id=event_id, traceparent=traceparent)


async def test_a_stream_whose_client_goes_away_is_cancelled_and_leaves_nobody_waiting() -> None:
    world = World()
    async with chats.client_of(world) as client:
        stream = await client.chat.completions.create(model="conclave", messages=chats.ASKED, stream=True)
        await stream.close()
        await until(lambda: world.answers.awaited == (), what="nobody waiting")
    assert chats.cancelled_of(world) == [request.request_id for request in chats.requests_of(world)]


async def test_when_a_choice_is_refused_those_before_it_are_cancelled() -> None:
    world = World()
    key = world.accounts.add("ours", Scope.ASK, limits=Limits(max_open=2))
    async with chats.client_of(world) as client:
        with pytest.raises(openai.RateLimitError):
            await client.with_options(api_key=key.text).chat.completions.create(
                model="conclave", messages=chats.ASKED, n=3
            )
    assert len(chats.requests_of(world)) == 2
    assert chats.cancelled_of(world) == [request.request_id for request in chats.requests_of(world)]
    assert world.answers.awaited == ()


async def test_when_a_choice_is_not_published_it_is_cancelled_and_those_before_it() -> None:
    world = Losing()
    async with chats.client_of(world) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="conclave", messages=chats.ASKED, n=3)
        await until(lambda: len(chats.cancelled_of(world)) == 2, what="two cancelled")
    (published,), unknown = chats.requests_of(world), world.lost
    assert set(chats.cancelled_of(world)) == {str(published.request_id), *unknown}


async def test_while_the_log_is_away_cancellations_wait_until_it_is_back() -> None:
    world = World()
    async with chats.client_of(world) as client:
        stream = await client.chat.completions.create(model="conclave", messages=chats.ASKED, n=2, stream=True)
        world.is_log_away = True
        await stream.close()
        await until(lambda: REGISTRY.get_sample_value("conclave_http_cancellations_waiting") == 2, what="both waiting")
        assert chats.cancelled_of(world) == []
        world.is_log_away = False
        await until(lambda: len(chats.cancelled_of(world)) == 2, what="both cancelled")
    assert chats.cancelled_of(world) == [request.request_id for request in chats.requests_of(world)]


async def test_with_an_idempotency_key_the_next_try_finds_the_choices_before_the_refused_one() -> None:
    world = World()
    key = world.accounts.add("ours", Scope.ASK, limits=Limits(max_open=2))
    async with chats.client_of(world) as client:
        ours = client.with_options(api_key=key.text, default_headers={"Idempotency-Key": "k"})
        with pytest.raises(openai.RateLimitError):
            await ours.chat.completions.create(model="conclave", messages=chats.ASKED, n=3)
        assert chats.cancelled_of(world) == []
        world.ledger.open = lambda request_id: request_id not in world.record.ended
        for request in chats.requests_of(world):
            world.end(made.answer("36", request_id=str(request.request_id)))
        world.answer = answering("36")
        completion = await ours.chat.completions.create(model="conclave", messages=chats.ASKED, n=3)
    assert len(completion.choices) == 3
    assert len(chats.requests_of(world)) == 3


async def test_what_a_client_waits_for_no_longer_is_cancelled() -> None:
    world = World()
    async with chats.client_of(world) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=0.5).chat.completions.create(model="conclave", messages=chats.ASKED, n=2)
        await until(lambda: world.answers.awaited == (), what="nobody waiting")
    assert chats.cancelled_of(world) == [request.request_id for request in chats.requests_of(world)]
    assert len(chats.cancelled_of(world)) == 2


async def test_what_has_an_idempotency_key_goes_on_without_its_client() -> None:
    world = World()
    async with chats.client_of(world) as client:
        patient = client.with_options(timeout=0.5, default_headers={"Idempotency-Key": "k"})
        with pytest.raises(openai.APITimeoutError):
            await patient.chat.completions.create(model="conclave", messages=chats.ASKED)
        await until(lambda: world.answers.awaited == (), what="nobody waiting")
        assert chats.cancelled_of(world) == []
        (request,) = chats.requests_of(world)
        world.end(made.answer("36", request_id=str(request.request_id)))
        completion = await patient.chat.completions.create(model="conclave", messages=chats.ASKED)
        assert completion.choices[0].message.content == "36"


async def test_an_idempotency_key_brings_the_same_completion_back() -> None:
    world = World(answering("36"))
    async with world.serving() as client:
        body = {"model": "conclave", "messages": chats.ASKED, "n": 2}
        first, second = [
            await client.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)
        ]
    assert first.json()["id"] == second.json()["id"]
    assert len(chats.requests_of(world)) == 2
    assert isinstance(first, httpx2.Response)


async def test_who_takes_nothing_more_of_a_stream_is_let_go_and_its_request_cancelled() -> None:
    world = World(settings={"gateway_client_timeout_s": 0.3})
    body = json.dumps({"model": "conclave", "messages": chats.ASKED, "stream": True}).encode()
    async with world.serving():
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        with slow:
            await asyncio.get_running_loop().sock_connect(slow, ("127.0.0.1", int(world.url.rpartition(":")[2])))
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            await asyncio.get_running_loop().sock_sendall(slow, head + body)
            await until(lambda: len(chats.requests_of(world)) == 1, what="the request")
            (request_id,) = (str(request.request_id) for request in chats.requests_of(world))
            path = {"step_index": 0, "answer": "36" * 50_000, "failure": None}
            world.record.happened[request_id] = [
                Happening(f"path/0/{number}", "path", {**path, "sample_index": number}) for number in range(150)
            ]
            await until(lambda: chats.cancelled_of(world) == [request_id], what="its cancellation")
            assert world.answers.awaited == ()


@pytest.mark.parametrize("key", [None, "k"])
async def test_what_a_gateway_that_stops_was_asked_is_cancelled_unless_its_client_can_come_back(
    key: str | None,
) -> None:
    world, headers = World(), {} if key is None else {"Idempotency-Key": key}
    async with chats.client_of(world) as client:
        asking = client.with_options(default_headers=headers).chat.completions
        asked = asyncio.create_task(asking.create(model="conclave", messages=chats.ASKED))
        await until(lambda: len(chats.requests_of(world)) == 1, what="the request")
    with pytest.raises(openai.APIConnectionError):
        await asked
    assert chats.cancelled_of(world) == ([] if key else [str(chats.requests_of(world)[0].request_id)])


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_stream_that_a_gateway_breaks_off_as_it_stops_is_cancelled_unless_its_client_can_come_back(
    key: str | None,
) -> None:
    world, headers = World(), {} if key is None else {"Idempotency-Key": key}
    body = json.dumps({"model": "conclave", "messages": chats.ASKED, "stream": True}).encode()
    async with world.serving():
        reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
        told = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{told}\r\n"
        writer.write(head.encode() + body)
        await reader.readuntil(b"assistant")
    writer.close()
    asked = [str(request.request_id) for request in chats.requests_of(world)]
    assert len(asked) == 1
    assert list(world.cancellations.noted) == ([] if key else asked)


async def test_what_a_chat_or_a_batch_makes_of_a_key_is_no_key_of_another_request() -> None:
    world = World(answering("36"))
    chat, ask = {"model": "conclave", "messages": chats.ASKED, "n": 2}, {"question": "another"}
    async with world.serving() as client, batch_calls.client_of(world) as batch_client:
        taken = await client.post("/v1/chat/completions", json=chat, headers={"Idempotency-Key": "k"})
        batch = await batch_calls.begun(batch_client, [batch_calls.line("a")])
        done = await batch_calls.ended(batch_client, batch)
        for key in ("k#0", "k#1", "k/0", f"{batch.id}/0", "k"):
            other = await client.post("/v1/requests", json=ask, headers={"Idempotency-Key": key})
            assert (other.status_code, key) == (202, key)
    assert (taken.status_code, done.status) == (200, "completed")
    assert len(chats.requests_of(world)) == 2 + 1 + 5


class Stuck(World):
    """Its log takes one request, and does not say whether it has the second."""

    async def publish(self, event: Event, *, event_id: str | None = None, traceparent: str | None = None) -> None:
        is_second = isinstance(event, ReasoningRequested) and len(chats.requests_of(self)) == 1
        await super().publish(event, event_id=event_id, traceparent=traceparent)
        if is_second:
            await asyncio.Event().wait()


async def test_choices_that_a_gateway_that_stops_has_asked_are_cancelled_though_others_were_still_to_be() -> None:
    world = Stuck()
    async with chats.client_of(world) as client:
        asked = asyncio.create_task(client.chat.completions.create(model="conclave", messages=chats.ASKED, n=3))
        await until(lambda: len(chats.requests_of(world)) == 2, what="two of them")
    with pytest.raises(openai.APIConnectionError):
        await asked
    assert set(world.cancellations.noted) == {str(request.request_id) for request in chats.requests_of(world)}
