"""Files of requests, by OpenAI's own client: what is kept of them, for whom, and under which key."""

import asyncio
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx2
import msgspec
import openai
import pytest

from conclave.domain.api_keys import Scope
from conclave.store.files import FileRow, Key, NewFile, OverBytes, Reused
from conclave.testing.waiting import until
from services.gateway.batch_lines import lines_of
from tests import batch_calls
from tests.batches_in_memory import MemoryFiles
from tests.gateway_in_memory import World, answering


async def test_what_is_kept_is_masked() -> None:
    world = World(batch_calls.echoing())
    canary = "canary.7f3a@secret.example"
    async with world.serving(), batch_calls.client_of(world) as client:
        lines = [batch_calls.line(canary, f"Is {canary} mine?", body={"metadata": {canary: canary}}), f"{{{canary}"]
        done = await batch_calls.ended(client, await batch_calls.begun(client, lines))
        kept = await client.files.content(done.input_file_id)
        assert canary not in kept.text
        assert [line["custom_id"] for line in await batch_calls.lines_of(client, done.output_file_id)] == ["[EMAIL]"]
    assert canary not in repr(world.batches) + repr(world.published)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe", b"a\0b"])
async def test_a_file_that_asks_for_nothing_makes_no_batch(content: bytes) -> None:
    world = World()
    async with world.serving(), batch_calls.client_of(world) as client:
        with pytest.raises(openai.BadRequestError):
            await batch_calls.begun_with(client, content)


async def test_a_file_or_batch_that_there_is_not_is_not_found() -> None:
    world = World()
    async with world.serving() as client:
        for path in ("/v1/files/x", "/v1/files/x/content", "/v1/batches/x", f"/v1/files/batch_{'0' * 32}-output"):
            assert (await client.get(path)).status_code == 404
        assert (await client.post("/v1/files", data={"purpose": "batch"})).status_code == 400
        assert (await client.post("/v1/files", content=b"nonsense")).status_code == 400


async def test_what_is_sent_again_under_one_key_is_kept_once() -> None:
    world = World(answering("36"))
    content, other = (json.dumps(batch_calls.line(name)).encode() for name in "ab")

    async def sent(content: bytes, key: str) -> str:
        file = ("a.jsonl", content)
        return (await client.files.create(file=file, purpose="batch", extra_headers={"Idempotency-Key": key})).id

    async def begun(file_id: str, key: str) -> str:
        wanted: Any = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return (await client.batches.create(**wanted, extra_headers={"Idempotency-Key": key})).id

    async with world.serving(), batch_calls.client_of(world) as client:
        file_id = await sent(content, "k")
        assert await sent(content, "k") == file_id
        assert await sent(content, "l") != file_id
        with pytest.raises(openai.ConflictError, match="idempotency key"):
            await sent(other, "k")
        batch_id = await begun(file_id, "k")
        await client.files.delete(file_id)
        assert await begun(file_id, "k") == batch_id, "though its file is gone"
        with pytest.raises(openai.ConflictError) as refused:
            await begun(await sent(content, "l"), "k")
        assert (refused.value.code, refused.value.param) == ("idempotency_key_reused", "Idempotency-Key")
        with pytest.raises(openai.BadRequestError):
            await sent(content, "no key")
    assert len(world.batches.made) == 1
    assert len(world.files.rows) == 1


async def test_keys_of_tenants_are_their_own() -> None:
    world = World()
    keys = [world.accounts.add(tenant, Scope.ASK) for tenant in ("ours", "theirs")]
    async with world.serving() as client:
        form: Any = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", b"{}")}}
        for key in (*keys, *keys):
            headers = {"Authorization": f"Bearer {key.text}", "Idempotency-Key": "k"}
            assert (await client.post("/v1/files", **form, headers=headers)).status_code == 200
    assert sorted(row.tenant for row, _ in world.files.rows.values()) == ["ours", "theirs"]


async def test_every_batch_and_every_file_is_listed_page_by_page() -> None:
    world = World(answering("36"))
    async with world.serving() as http, batch_calls.client_of(world) as client:
        batches = [(await batch_calls.begun(client, [batch_calls.line(f"line-{index}")])).id for index in range(5)]
        notes = await client.files.create(file=("notes.jsonl", b"{}"), purpose="user_data")
        assert [each.id async for each in client.batches.list(limit=2)] == batches[::-1]
        page = await client.batches.list(limit=2)
        assert (page.has_more, [each.id for each in page.data]) == (True, batches[:2:-1])
        more = [(await client.batches.list(limit=2, after=batches[index])).has_more for index in (3, 2, 1)]
        assert more == [True, False, False]
        files = [each async for each in client.files.list(limit=2)]
        assert (len(files), files[0].id, {each.purpose for each in files[1:]}) == (6, notes.id, {"batch"})
        assert files[0].bytes == len("{}\n")
        assert [each.id async for each in client.files.list(limit=4, order="asc")] == [each.id for each in files[::-1]]
        assert [each.id async for each in client.files.list(purpose="user_data")] == [notes.id]
        for wrong in ("limit=0", "limit=101", "limit=1.5", "limit=x"):
            assert (await http.get(f"/v1/batches?{wrong}")).json()["error"]["param"] == "limit"
        for wrong in ("limit=10001", "order=up", "purpose=vision", "after=file-x", "after=%00"):
            refused = await http.get(f"/v1/files?{wrong}")
            assert (refused.status_code in (400, 404), refused.json()["error"]["param"]) == (True, wrong.split("=")[0])
        assert (await http.get("/v1/batches?after=batch_x")).json()["error"]["param"] == "after"


async def test_a_file_is_deleted_and_an_output_file_says_what_it_is_and_how_long() -> None:
    world = World(answering("36"))
    async with world.serving(), batch_calls.client_of(world) as client:
        done = await batch_calls.ended(client, await batch_calls.begun(client, [batch_calls.line("a"), "not json"]))
        for file_id in (done.output_file_id, done.error_file_id):
            file = await client.files.retrieve(str(file_id))
            content = await client.files.content(str(file_id))
            assert (file.purpose, file.bytes) == ("batch_output", len(content.content))
            assert file.bytes > 0
            with pytest.raises(openai.ConflictError, match="output file"):
                await client.files.delete(str(file_id))
        deleted = await client.files.delete(done.input_file_id)
        assert (deleted.id, deleted.deleted, deleted.object) == (done.input_file_id, True, "file")
        for gone in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError):
                await gone(done.input_file_id)
        assert (await client.batches.retrieve(done.id)).status == "completed"


async def test_a_tenant_has_room_for_so_many_bytes() -> None:
    world = World(max_tenant_file_bytes=400)
    async with world.serving(), batch_calls.client_of(world) as client:
        content = json.dumps(batch_calls.line("a", "x" * 100)).encode()
        file = await client.files.create(file=("a.jsonl", content), purpose="batch")
        assert file.bytes > 200
        with pytest.raises(openai.APIStatusError, match="may have 400 bytes together") as refused:
            await client.files.create(file=("b.jsonl", content), purpose="batch")
        assert (refused.value.status_code, refused.value.code, refused.value.param) == (413, "over_bytes", "file")
        await client.files.delete(file.id)
        await client.files.create(file=("b.jsonl", content), purpose="batch")


@pytest.mark.parametrize("is_escaped", [True, False])
async def test_a_text_may_hold_what_ends_a_line_elsewhere(is_escaped: bool) -> None:
    world, texts = World(batch_calls.echoing()), ["one\u2028two", "one\u2029two", "one\x85two"]
    lines = [json.dumps(batch_calls.line(f"l{at}", text), ensure_ascii=is_escaped) for at, text in enumerate(texts)]
    async with world.serving(), batch_calls.client_of(world) as client:
        done = await batch_calls.ended(client, await batch_calls.begun(client, lines))
        content = (await client.files.content(str(done.output_file_id))).text
    said = [
        json.loads(line)["response"]["body"]["choices"][0]["message"]["content"] for line in content.split("\n")[:-1]
    ]
    assert said == texts


async def test_a_file_may_begin_with_a_mark_and_end_its_lines_as_it_likes() -> None:
    world = World(batch_calls.echoing())
    async with world.serving(), batch_calls.client_of(world) as client:
        content = (
            "\ufeff"
            + "\r\n".join(json.dumps(batch_calls.line(name)) for name in "ab")
            + "\r"
            + json.dumps(batch_calls.line("c"))
        )
        done = await batch_calls.ended(client, await batch_calls.begun_with(client, content.encode()))
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed) == (3, 3)


async def test_a_batch_of_a_file_that_there_is_not_says_which_field_names_it() -> None:
    body = {"input_file_id": "file-nope", "endpoint": "/v1/chat/completions", "completion_window": "1h"}
    async with World().serving() as client:
        refused = await client.post("/v1/batches", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "input_file_id")


def _with_schema(name: str, schema: dict[str, Any]) -> str:
    wanted = {"type": "json_schema", "json_schema": {"name": name, "schema": {"type": "object", **schema}}}
    return json.dumps(batch_calls.line("a", body={"response_format": wanted}))


@pytest.mark.parametrize(
    "line",
    [
        r'{"custom_id":"\ud800"}',
        r'{"custom_id":"a\u0000"}',
        _with_schema("a\0", {}),
        _with_schema("a", {"title": "\0"}),
        _with_schema("a", {"properties": {"a": {"const": {"\0": 1}}}}),
    ],
)
def test_a_line_that_no_database_keeps_is_a_wrong_line(line: str) -> None:
    (found,) = lines_of(line)
    assert found.error is not None
    assert "\\u0000" not in msgspec.json.encode(found).decode()


async def test_a_file_that_is_deleted_while_it_is_looked_up_is_not_found() -> None:
    world = World()
    async with world.serving() as client:
        form: Any = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", b"{}")}}
        file_id = (await client.post("/v1/files", **form)).json()["id"]
        world.files.rows[file_id] = (world.files.rows[file_id][0], None)  # type: ignore[assignment]  # gone between two looks
        wanted = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "1h"}
        begun = await client.post("/v1/batches", json=wanted)
        content = await client.get(f"/v1/files/{file_id}/content")
    assert (begun.status_code, begun.json()["error"]["param"]) == (404, "input_file_id")
    assert content.status_code == 404


class Crowded(MemoryFiles):
    """Has whoever keeps a file wait until all others are there too, or for a moment."""

    def __init__(self, num_sent: int) -> None:
        super().__init__()
        self.num_sent, self.num_here, self.most, self.all_here = num_sent, 0, 0, asyncio.Event()

    async def add(self, file: NewFile, *, key: Key | None, max_bytes: int) -> FileRow | Reused | OverBytes:
        self.num_here += 1
        self.most = max(self.most, self.num_here)
        if self.num_here == self.num_sent:
            self.all_here.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.all_here.wait(), 0.2)
        self.num_here -= 1
        return await super().add(file, key=key, max_bytes=max_bytes)


async def test_a_few_whole_files_are_in_memory_at_once_however_many_are_sent() -> None:
    files = Crowded(8)
    async with World(files=files).serving() as client:
        form: Any = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", b"{}")}}
        told = await asyncio.gather(*(client.post("/v1/files", **form) for _ in range(8)))
    assert {each.status_code for each in told} == {200}
    assert (files.most, len(files.rows)) == (4, 8)


def _is_answering() -> bool:
    """True while some call is being answered."""
    return any("run_asgi" in repr(task) for task in asyncio.all_tasks())


@asynccontextmanager
async def _slow_client(world: World, file_id: str) -> AsyncIterator[socket.socket]:
    """One who has asked for a file, and taken none of it."""
    loop, slow = asyncio.get_running_loop(), socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.setblocking(False)
    with slow:
        await loop.sock_connect(slow, ("127.0.0.1", int(world.url.rpartition(":")[2])))
        asked = f"GET /v1/files/{file_id}/content HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await loop.sock_sendall(slow, asked.encode())
        yield slow


async def _uploaded(client: httpx2.AsyncClient, content: bytes) -> dict[str, Any]:
    form: Any = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", content)}}
    return dict((await client.post("/v1/files", **form)).json())


async def test_who_takes_nothing_more_of_a_file_is_let_go() -> None:
    world = World(settings={"gateway_client_timeout_s": 0.3})
    async with world.serving() as client:
        file = await _uploaded(client, b"x" * 2**24)
        async with _slow_client(world, file["id"]) as slow:
            loop = asyncio.get_running_loop()
            sent = len(await loop.sock_recv(slow, 4096))
            assert sent > 0
            await until(lambda: not _is_answering(), what="a gateway that answers nobody")
            while part := await loop.sock_recv(slow, 2**16):
                sent += len(part)
    assert sent < 2**24 < file["bytes"]


async def test_a_file_of_many_pieces_comes_as_it_was_sent() -> None:
    texts = [f"{number} é € 😀".encode() for number in range(100_000)]
    async with World().serving() as client:
        file = await _uploaded(client, b"\n".join(texts) + b"\n")
        got = await client.get(f"/v1/files/{file['id']}/content")
    assert int(got.headers["content-length"]) == len(got.content) == file["bytes"] > 2**20
    assert got.content.split(b"\n")[:-1] == texts


async def test_of_a_file_that_slow_clients_take_a_piece_for_each_of_them_is_in_memory() -> None:
    num_clients, world = 8, World()
    async with world.serving() as client, AsyncExitStack() as slow:
        file = await _uploaded(client, b"x" * 2**23)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(num_clients):
                taking = await slow.enter_async_context(_slow_client(world, file["id"]))
                assert await asyncio.get_running_loop().sock_recv(taking, 16) == b"HTTP/1.1 200 OK\r"
            held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert held < file["bytes"], f"{num_clients} clients hold {held:,} bytes of a file of {file['bytes']:,}"
