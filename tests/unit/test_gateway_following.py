"""Requests that are followed: all that happens to them as events, for as long as it can be read and its reader is let in."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route, Router
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from conclave.domain.api_keys import ApiKey, Scope
from conclave.store.happenings import Happening
from conclave.testing import events as made
from conclave.testing.waiting import until
from services.gateway import access, streams
from services.gateway.access import Access
from services.gateway.signing_in import PagesGuard
from tests import chats
from tests.gateway_in_memory import MemoryAccounts, MemorySignIns, World, answering

QUESTION = {"question": "What is 6 times 6?"}
CHAT = {"model": "conclave", "messages": chats.ASKED}


async def test_all_that_happens_is_streamed_and_the_end_comes_last() -> None:
    world = World()
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        planned = Happening("planned", "planned", {"policy": "default", "strategy": "vote"})
        path = Happening("path/0/0", "path", {"step_index": 0, "sample_index": 0, "answer": "36"})
        world.record.happened[request_id] = [planned]
        told: list[tuple[str, str, dict[str, object]]] = []
        async with client.stream("GET", f"/v1/requests/{request_id}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines: dict[str, str] = {}
            async for line in stream.aiter_lines():
                name, _, value = line.partition(": ")
                lines[name] = value
                if line:
                    continue
                told.append((lines["id"], lines["event"], json.loads(lines["data"])))
                if len(told) == 1:
                    world.end(made.answer("36", request_id=request_id))
                    world.record.happened[request_id] = [planned, path]
        assert [(name, kind) for name, kind, _ in told] == [
            ("planned", "planned"),
            ("path/0/0", "path"),
            ("end", "answered"),
        ]
        assert told[-1][2]["answer"] == "36"


async def test_who_comes_back_after_the_end_of_a_stream_is_told_that_nothing_comes() -> None:
    world = World(answering("36"))
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        told = await client.get(f"/v1/requests/{request_id}/events")
        assert "id: end\n" in told.text
        again = await client.get(f"/v1/requests/{request_id}/events", headers={"Last-Event-ID": "end"})
        assert (again.status_code, again.content) == (204, b"")
        before = await client.get(f"/v1/requests/{request_id}/events", headers={"Last-Event-ID": "planned"})
        assert "id: end\n" in before.text


async def test_a_stream_s_head_leaves_its_connection_free() -> None:
    world = World()
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        async with asyncio.timeout(5):
            head = await client.head(f"/v1/requests/{request_id}/events")
            assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            assert (await client.get("/v1/models")).status_code == 200, "on the same connection"


async def test_a_request_of_which_something_can_not_be_read_is_told_so_and_keeps_no_other_from_its_end() -> None:
    world = World()
    async with world.serving() as client:
        bad, good = [(await client.post("/v1/requests", json=QUESTION)).json()["id"] for _ in range(2)]
        waits = [asyncio.create_task(client.get(f"/v1/requests/{each}?wait_s=9")) for each in (bad, good)]
        async with client.stream("GET", f"/v1/requests/{bad}/events") as stream:
            await until(lambda: set(world.answers.awaited) == {bad, good}, what="both waiting")
            world.record.blanked[bad] = {"steps": "no steps"}
            for each in (bad, good):
                world.end(made.answer("36", request_id=each), is_heard=False)
            failed, told = await asyncio.gather(*waits)
            with pytest.raises(httpx2.RemoteProtocolError):
                async for _ in stream.aiter_lines():
                    pass
        assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal_error")
        assert told.json()["result"]["answer"] == "36"
        later = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        waiting = asyncio.create_task(client.get(f"/v1/requests/{later}?wait_s=9"))
        await until(lambda: later in world.answers.awaited, what="one more who waits")
        world.end(made.answer("37", request_id=later), is_heard=False)
        assert (await waiting).json()["result"]["answer"] == "37"


def _revoke(accounts: MemoryAccounts, key: ApiKey) -> None:
    """As `conclave keys revoke` does; there has been a key ever since."""
    accounts.add("others", Scope.FEEDBACK)
    del accounts.accounts[key.key_id]


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that looks every key up, so that no test has to wait until one is forgotten."""
    monkeypatch.setattr(access, "_REMEMBERED_S", -1.0)


@pytest.mark.usefixtures("forgetful")
async def test_events_end_with_the_key_that_they_were_asked_for_with() -> None:
    world = World()
    key = world.accounts.add("ours", Scope.ASK)
    headers = {"Authorization": f"Bearer {key.text}"}
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION, headers=headers)).json()["id"]
        world.record.happened[request_id] = [Happening("planned", "planned", {"policy": "default"})]
        async with client.stream("GET", f"/v1/requests/{request_id}/events", headers=headers) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "id: planned"
            _revoke(world.accounts, key)
            world.end(made.answer("36", request_id=request_id))
            rest = [line async for line in lines]
    assert "id: end" not in rest


@pytest.mark.usefixtures("forgetful")
async def test_who_waits_with_a_key_that_is_revoked_meanwhile_is_told_no_answer() -> None:
    world = World()
    key = world.accounts.add("ours", Scope.ASK)
    headers = {"Authorization": f"Bearer {key.text}"}
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION, headers=headers)).json()["id"]
        waiting = asyncio.create_task(client.get(f"/v1/requests/{request_id}?wait_s=9", headers=headers))
        await until(lambda: request_id in world.answers.awaited, what="who waits")
        _revoke(world.accounts, key)
        world.end(made.answer("36", request_id=request_id))
        refused = await waiting
    assert (refused.status_code, "36" in refused.text) == (401, False)


@pytest.mark.usefixtures("forgetful")
async def test_a_stream_in_which_nothing_happens_ends_at_the_next_sign_of_life_after_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_S", 0.05)
    world = World()
    key = world.accounts.add("ours", Scope.ASK)
    headers = {"Authorization": f"Bearer {key.text}"}
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION, headers=headers)).json()["id"]
        async with client.stream("GET", f"/v1/requests/{request_id}/events", headers=headers) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == ": still here"
            _revoke(world.accounts, key)
            async with asyncio.timeout(5):
                assert {line async for line in lines} <= {": still here", ""}


def test_a_key_that_is_revoked_keeps_a_silent_stream_open_for_twenty_seconds_at_most() -> None:
    assert streams.KEEP_ALIVE_S + access._REMEMBERED_S <= 20.0, "as docs/operations.md promises"


@pytest.mark.usefixtures("forgetful")
async def test_a_chat_that_is_streamed_ends_with_its_key_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_S", 0.05)
    world = World()
    key = world.accounts.add("ours", Scope.ASK)
    headers, body = {"Authorization": f"Bearer {key.text}"}, {**CHAT, "stream": True}
    async with world.serving() as client:
        async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as stream:
            lines = stream.aiter_lines()
            assert "assistant" in await anext(lines)
            _revoke(world.accounts, key)
            rest = [line async for line in lines if line.startswith("data: ")]
        assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "invalid_api_key"
        await until(lambda: len(chats.cancelled_of(world)) == 1, what="its request cancelled")


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("is_away", [False, True])
async def test_a_chat_whose_key_is_revoked_meanwhile_is_told_no_answer_where_that_can_be_known(is_away: bool) -> None:
    world = World()
    key = world.accounts.add("ours", Scope.ASK)
    headers = {"Authorization": f"Bearer {key.text}"}
    async with world.serving() as client:
        waiting = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT, headers=headers))
        await until(lambda: len(world.answers.awaited) == 1, what="who waits")
        (request_id,) = world.answers.awaited
        _revoke(world.accounts, key)
        world.accounts.is_away = is_away
        world.end(made.answer("36", request_id=request_id))
        told = await waiting
    assert (told.status_code, "36" in told.text) == ((200, True) if is_away else (401, False))


@pytest.mark.usefixtures("forgetful")
async def test_a_file_that_is_being_read_breaks_off_with_its_reader_s_key() -> None:
    world = World()
    key = world.accounts.add("ours", Scope.ASK)
    headers, got = {"Authorization": f"Bearer {key.text}"}, bytearray()
    form: Any = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", b"x" * 2**24)}}

    async def read(path: str) -> None:
        async with client.stream("GET", path, headers=headers) as stream:
            async for part in stream.aiter_bytes():
                if not got:
                    _revoke(world.accounts, key)
                got.extend(part)

    async with world.serving() as client:
        file_id = (await client.post("/v1/files", **form, headers=headers)).json()["id"]
        with capture_logs() as logs, pytest.raises(httpx2.RemoteProtocolError):
            await read(f"/v1/files/{file_id}/content")
    assert [each["event"] for each in logs] == ["answer_broken_off"], "as is foreseen"
    assert 0 < len(got) < 2**24


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("ending", ["key", "sign-in", None])
def test_a_page_that_is_sent_bit_by_bit_ends_with_its_reader_s_key_or_sign_in(ending: str | None) -> None:
    accounts, sign_ins = MemoryAccounts(), MemorySignIns()
    key = accounts.add("ops", Scope.ADMIN)

    async def bits(request: Request) -> Response:
        async def sent() -> Any:
            yield "one "
            if ending == "key":
                _revoke(accounts, key)
            if ending == "sign-in":
                sign_ins.keys.clear()
            yield "two "

        return StreamingResponse(sent())

    world = World(accounts=accounts, sign_ins=sign_ins)
    guard = PagesGuard(Router([Route("/live", bits)]), Access(accounts, sign_ins, host="127.0.0.1"))
    with TestClient(Starlette(routes=[Mount("/", guard)])) as client:
        told = client.get("/live", headers=world.signed_in(key))
    assert (told.status_code, told.text) == (200, "one two " if ending is None else "one ")
