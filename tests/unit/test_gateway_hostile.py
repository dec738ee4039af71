"""What hostile clients send to the API itself is refused, whatever it is, and the service goes on as if nothing had been."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest

from tests.gateway_in_memory import World, answering

QUESTION = {"question": "What is 6 times 6?"}
DEEP = b'{"question":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
BODIES = {
    "nothing": b"",
    "no JSON": b"\x00\x01",
    "no UTF-8": b'{"question": "\xff\xfe"}',
    "half a surrogate": b'{"question": "\\ud800"}',
    "a NUL": b'{"question": "a\\u0000b"}',
    "too deep": DEEP,
    "deep in a schema": b'{"question": "x", "answer_schema": ' + b'{"items":' * 5000 + b"{}" + b"}" * 5000 + b"}",
    "a name twice": b'{"question": 1, "question": 2}',
    "a number without end": b'{"question": "x", "deadline_s": 1e999}',
    "a number too large": b'{"question": "x", "max_samples": ' + b"9" * 5000 + b"}",
    "not a number": b'{"question": "x", "deadline_s": NaN}',
    "a list": b"[]",
    "only white space": b'{"question": " \\u200b "}',
    "a form": b"question=x",
    "deep where it has no effect": b'{"model": "conclave", "messages": [{"role": "user", "content": ""}], "x": '
    + b"[" * 5000
    + b"]" * 5000
    + b"}",
}


@asynccontextmanager
async def _serving() -> AsyncIterator[tuple[World, httpx2.AsyncClient]]:
    world = World(answering("36"))
    async with world.serving() as client:
        yield world, client


async def _still_answers(client: httpx2.AsyncClient) -> None:
    taken = await client.post("/v1/requests", json=QUESTION)
    assert taken.status_code == 202
    result = await client.get(f"/v1/requests/{taken.json()['id']}", params={"wait_s": 5})
    assert result.json()["result"]["answer"] == "36"


async def _status(client: httpx2.AsyncClient, method: str, path: str, **sent: Any) -> int | None:
    """What is answered; None where the connection is closed on who is still sending."""
    try:
        return (await client.request(method, path, **sent)).status_code
    except httpx2.TransportError:
        return None


async def test_every_route_that_takes_a_body_refuses_what_is_none() -> None:
    async with _serving() as (world, client):
        routes = [row for row in world.routes() if row.body is not None]
        assert len(routes) >= 4
        for row in routes:
            for what, body in BODIES.items():
                refused = await client.request(row.method, row.path, content=body)
                assert refused.status_code == 400, f"{row.path}: {what}: {refused.status_code} {refused.text[:300]}"
                assert refused.json()["error"]["type"] == "invalid_request_error"
        assert world.published == []
        await _still_answers(client)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/requests/%ff%fe", "/v1/requests/%00", "/v1/requests/..%2f..%2fetc%2fpasswd", "/v1/files/%00", "/v1/files/%ff",
        "/v1/batches/%00", "/v1/batches/%ff", "/v1/models/%00", "/v1/models/%ff", "/v1/models/" + "x" * 20_000,
        "/v1/requests/018f0000-0000-7000-8000-000000000000?wait_s=nan", "/v1/batches?limit=%ff", "/requests/%ff", "/%00",
        "/requests?text=%00", "/requests?tag=%ff&before=%00", "/compare?id=%00&id=%ff",
    ],
)  # fmt: skip
async def test_a_path_or_query_of_any_bytes_is_no_mistake_of_ours(path: str) -> None:
    async with _serving() as (_, client):
        answer = await client.get(path)
        # Pages read the record, which is away here.
        assert answer.status_code < 500 or (answer.status_code == 503 and not path.startswith("/v1")), answer.text[:300]


@pytest.mark.parametrize("name", ["Idempotency-Key", "Authorization", "X-Api-Key", "Cookie", "traceparent", "Origin"])
@pytest.mark.parametrize("value", [b"\xff\xfe", b"\x01", b"a" * 8000, b"Bearer \xc3\x28", b"conclave_pass=\xff"])
async def test_a_header_of_any_bytes_is_no_mistake_of_ours(name: str, value: bytes) -> None:
    async with _serving() as (_, client):
        answer = await client.post("/v1/requests", json=QUESTION, headers=[(name.encode(), value)])
        assert answer.status_code < 500, answer.text[:300]


async def test_ten_megabytes_are_refused_wherever_they_are_sent() -> None:
    async with _serving() as (world, client):
        for row in world.routes():
            if row.body is not None:
                assert await _status(client, row.method, row.path, content=b"x" * 10_000_000) in (413, None), row.path
        form = {"file": ("a.jsonl", b"x" * 40_000_000)}
        assert await _status(client, "POST", "/v1/files", data={"purpose": "batch"}, files=form) in (413, None)
        assert world.published == []
        assert world.files.rows == {}
        await _still_answers(client)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"--x--\r\n", "multipart/form-data"),
        (b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n" + b"\xff" * 100 + b"\r\n--x--\r\n",
         "multipart/form-data; boundary=x"),
        (b"file=x&purpose=batch", "application/x-www-form-urlencoded"),
        (b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n" * 2000 + b"--x--\r\n",
         "multipart/form-data; boundary=x"),
    ],
)  # fmt: skip
async def test_a_form_that_is_none_is_refused(content: bytes, kind: str) -> None:
    async with _serving() as (_, client):
        refused = await client.post("/v1/files", content=content, headers={"Content-Type": kind})
        assert refused.status_code == 400, refused.text[:300]


@pytest.mark.parametrize(
    ("body", "status"), [(b"Content-Length: 9\r\n\r\nhalf", 408), (b"Content-Length: 9000000\r\n\r\n", 413)]
)
async def test_a_body_that_nobody_reads_is_held_to_the_same_limits(body: bytes, status: int) -> None:
    world = World(settings={"gateway_client_timeout_s": 0.3})
    async with world.serving() as client:
        request_id = (await client.post("/v1/requests", json=QUESTION)).json()["id"]
        for path in (f"/v1/requests/{request_id}?wait_s=9", f"/v1/requests/{request_id}/events", "/v1/files"):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + body)
            async with asyncio.timeout(5):
                said = await reader.read()
            writer.close()
            assert said.split()[1] == str(status).encode(), (path, said)


async def test_two_hundred_clients_that_never_finish_keep_nobody_waiting() -> None:
    async with _serving() as (world, client), AsyncExitStack() as slow:
        port = int(world.url.rpartition(":")[2])
        body = json.dumps(QUESTION).encode()
        head = b"POST /v1/requests HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        for number in range(200):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            slow.callback(writer.close)
            writer.write((head + body)[: 1 + number % (len(head) + len(body) - 1)])
        async with asyncio.timeout(5):
            await _still_answers(client)
        assert len(world.published) == 1, "half a question was asked"
