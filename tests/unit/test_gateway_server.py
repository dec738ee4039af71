"""The gateway's server refuses what is too large, too slow or no HTTP, and goes on serving everyone else."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from conclave.errors import Misconfigured
from conclave.testing.waiting import until
from services.gateway.app import framed
from services.gateway.server import WebServer
from services.gateway.settings import GatewaySettings

DSN = "postgresql://nobody@127.0.0.1:1/none"


async def _echo(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def _endless(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"data: .\n\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(parts(), media_type="text/event-stream")


async def _broken(request: Request) -> Response:
    raise ValueError("a secret")


async def _hanging(request: Request) -> Response:
    await asyncio.Event().wait()
    return PlainTextResponse("never")


async def _large(request: Request) -> Response:
    return PlainTextResponse("x" * 2**24)


async def _first(request: Request) -> Response:
    return PlainTextResponse("here")


ROUTES = [
    Route("/", _first),
    Route("/echo", _echo, methods=["POST"]),
    Route("/endless", _endless),
    Route("/broken", _broken),
    Route("/hanging", _hanging),
    Route("/large", _large),
]


def _settings(**changes: object) -> GatewaySettings:
    values = {"postgres_dsn": DSN, "gateway_port": 0, "gateway_client_timeout_s": 0.3, "gateway_max_body_bytes": 4096}
    return GatewaySettings.model_validate(values | changes)


@asynccontextmanager
async def _serving(app: Starlette, settings: GatewaySettings) -> AsyncIterator[WebServer]:
    server = WebServer(app, settings, drain_s=1.0)
    running = asyncio.create_task(server.run())
    try:
        await until(lambda: server.is_ready, what="a listening gateway")
        yield server
    finally:
        server.stop()
        await running


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    settings = _settings()
    async with _serving(framed(ROUTES, settings), settings) as server:
        yield server


async def _said(server: WebServer, *parts: bytes) -> bytes:
    """What the server answers to these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for part in parts:
            writer.write(part)
        await writer.drain()
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def _error_of(said: bytes, status: int) -> Any:
    """The error that was told, in the shape and with the headers that every other answer has."""
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.split()[1] == str(status).encode(), said
    for named in (b"content-type: application/json", b"content-security-policy: ", b"cache-control: no-store"):
        assert named in head.lower(), said
    return json.loads(body)["error"]


def _post(path: str, body: bytes, *headers: bytes) -> bytes:
    head = [
        f"POST {path} HTTP/1.1".encode(),
        b"Host: localhost",
        b"Connection: close",
        b"Content-Length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


async def _still_serves(server: WebServer) -> None:
    assert (await _said(server, _post("/echo", b"abc"))).endswith(b"\r\n\r\n3")


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST /echo HT",
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n",
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
    ],
    ids=["nothing", "half a line", "half a head", "half a body", "half a body that no one reads"],
)
async def test_a_client_that_does_not_go_on_is_let_go(server: WebServer, begun: bytes) -> None:
    said = await _said(server, begun)
    assert said == b"" or said.split()[1] in (b"408", b"404"), said
    await _still_serves(server)


async def test_a_body_beyond_the_limit_is_refused_before_it_is_read(server: WebServer) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n"
    assert b" 413 " in await _said(server, head)
    await _still_serves(server)


async def test_a_body_that_says_nothing_of_its_length_is_counted(server: WebServer) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    assert b" 413 " in await _said(server, head, chunk, chunk, b"0\r\n\r\n")
    await _still_serves(server)


@pytest.mark.parametrize(
    "headers", [[b"X-%d: 1" % index for index in range(10_000)], [b"X: " + b"x" * 40_000], [b"X: 1"] * 101]
)
async def test_too_many_or_too_large_headers_are_refused(server: WebServer, headers: list[bytes]) -> None:
    said = await _said(server, _post("/echo", b"", *headers))
    assert said == b"" or said.split()[1] in (b"400", b"431"), said[:200]
    await _still_serves(server)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\xff\xfe\x00garbage\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: gzip, chunked\r\n\r\nabc",
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(server: WebServer, request_bytes: bytes) -> None:
    said = await _said(server, request_bytes)
    assert said == b"" or said.split()[1] in (b"400", b"404", b"501", b"505"), said[:200]
    await _still_serves(server)


async def test_a_length_and_chunks_together_smuggle_no_second_request(server: WebServer) -> None:
    smuggled = b"0\r\n\r\nPOST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n"
    said = await _said(server, head % len(smuggled) + smuggled)
    assert said.split()[1] == b"400"
    assert said.count(b"HTTP/1.1 ") == 1


async def test_a_mistake_of_ours_is_told_without_its_text(server: WebServer) -> None:
    said = await _said(server, b"GET /broken HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert b" 500 " in said
    assert b'"code":"internal_error"' in said
    assert b"secret" not in said


async def test_every_answer_bears_the_headers_that_bound_a_browser(server: WebServer) -> None:
    for path in ("/", "/nothing", "/broken"):
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        said = (await _said(server, head)).lower()
        assert b"content-security-policy: default-src 'none'" in said, path
        assert b"x-content-type-options: nosniff" in said, path


async def test_a_stream_that_never_ends_does_not_keep_the_server_from_stopping() -> None:
    settings = _settings()
    async with asyncio.timeout(10):
        async with _serving(framed(ROUTES, settings), settings) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"data:")
        writer.close()


async def test_a_port_that_is_taken_is_a_wrong_setting(server: WebServer) -> None:
    settings = _settings(gateway_port=server.port)
    with pytest.raises(Misconfigured, match="CONCLAVE_GATEWAY_PORT"):
        await WebServer(framed([], settings), settings, drain_s=1.0).run()


async def test_what_is_no_http_is_told_so_as_any_other_error(server: WebServer) -> None:
    error = _error_of(await _said(server, b"\xff\xfe\x00garbage\r\n\r\n"), 400)
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_http")
    begun = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n"
    assert _error_of(await _said(server, begun), 400)["code"] == "invalid_http"
    await _still_serves(server)


@pytest.mark.parametrize("path", ["/", "/endless"])
async def test_what_is_no_http_behind_an_answer_that_has_begun_ends_the_connection_and_nothing_else(
    server: WebServer, path: str
) -> None:
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"no length\r\n")
    async with asyncio.timeout(5):
        rest = await reader.read()
    writer.close()
    assert b" 400 " not in rest
    assert broken == []
    await _still_serves(server)


async def test_connections_beyond_the_limit_are_told_to_come_back_and_those_before_them_are_served() -> None:
    settings = _settings(gateway_max_connections=2, gateway_client_timeout_s=5)
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with _serving(framed(ROUTES, settings), settings) as server:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        for reader, writer in held:
            writer.write(request)
            await reader.readuntil(b"here")
        said = await _said(server, request)
        error = _error_of(said, 503)
        assert (error["type"], error["code"]) == ("server_error", "gateway_busy")
        assert b"retry-after: " in said
        for reader, writer in held:
            writer.write(request)
            await reader.readuntil(b"here")
            writer.close()
        await until(lambda: len(server._server.server_state.connections) == 0, what="room")
        await _still_serves(server)


async def test_what_a_gateway_that_stops_can_not_wait_for_is_told_so() -> None:
    settings = _settings()
    async with _serving(framed(ROUTES, settings), settings) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /hanging HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: len(server._server.server_state.tasks) == 1, what="a call")
    async with asyncio.timeout(5):
        said = await reader.read()
    writer.close()
    error = _error_of(said, 503)
    assert (error["type"], error["code"]) == ("server_error", "gateway_stops")
    assert b"retry-after: " in said


async def test_a_client_that_leaves_while_it_sends_is_no_mistake_of_ours(server: WebServer) -> None:
    with capture_logs() as logs:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
        await until(lambda: len(server._server.server_state.tasks) == 1, what="a call")
        writer.close()
        await until(lambda: len(server._server.server_state.tasks) == 0, what="its end")
    assert [each["event"] for each in logs if each["log_level"] != "info"] == []
    await _still_serves(server)


async def test_who_takes_nothing_more_of_an_answer_is_let_go_though_all_of_it_was_sent(server: WebServer) -> None:
    loop, slow, state = asyncio.get_running_loop(), socket.socket(), server._server.server_state
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.setblocking(False)
    with slow:
        await loop.sock_connect(slow, ("127.0.0.1", server.port))
        await loop.sock_sendall(slow, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await loop.sock_recv(slow, 15) == b"HTTP/1.1 200 OK"
        await until(lambda: not state.tasks, what="an answer that was sent")
        await until(lambda: not state.connections, what="a connection that is let go")
    await _still_serves(server)


async def test_who_takes_an_answer_slowly_has_it_all(server: WebServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    (connection,) = server._server.server_state.connections
    for _ in range(3):
        await reader.readexactly(2**20)
        await until(_changed(connection), what="another look at what is taken")
    rest = await reader.read()
    writer.close()
    assert len(rest) == 2**24 - 3 * 2**20


async def test_who_always_has_as_much_before_it_of_an_answer_under_way_is_no_client_that_takes_nothing(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.server._untaken", lambda transport: 4096)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"data: ")
    (connection,) = server._server.server_state.connections
    for _ in range(3):
        await until(_changed(connection), what="another look at what is taken")
    assert await reader.readuntil(b"data: ")
    writer.close()


def _changed(connection: Any) -> Callable[[], bool]:
    """True once the server has looked again at what the connection's client takes."""
    last = connection._taking
    return lambda: connection._taking is not last
