"""An MCP server over HTTP for tests, that does what its tool's name says: behaves, or does harm.

By hand, without a library: it must be able to say what no library would.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

_END = b"\r\n\r\n"
_SSE = {"content-type": "text/event-stream"}
_JSON = {"content-type": "application/json"}


class HttpMcpServer:
    """`async with` it; `url` is where it is then."""

    def __init__(self) -> None:
        self.url = ""
        self.num_open = 0  # connections
        self.sessions: list[str] = []
        self.paths: list[str] = []  # all that was asked for
        self.headers: dict[str, str] = {}  # of the latest request
        self.num_calls = 0
        self.num_resumed = 0
        self.is_mute = False
        self.saw_cookie = False
        self._later: dict[str, str] = {}  # answers that are fetched, by the id of the event before
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "HttpMcpServer":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/mcp"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)
        await self._server.wait_closed()

    async def all_closed(self) -> None:
        """Returns once nobody is connected any more."""
        async with asyncio.timeout(10):
            while self.num_open:
                await asyncio.sleep(0.005)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.num_open += 1
        try:
            # Cancelled as the server ends: a task that says so is taken for a failure by Python 3.11's streams.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self.num_open -= 1
            self._serving.discard(task)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """False where the connection is of no more use."""
        head, *lines = (await reader.readuntil(_END)).decode().strip().split("\r\n")
        method, path, _ = head.split(" ")
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.saw_cookie |= "cookie" in self.headers
        body = await reader.readexactly(int(self.headers.get("content-length", "0")))
        self.paths.append(f"{method} {path}")
        if self.is_mute:
            await _hang(reader)
            return False
        if method == "DELETE":
            if self.headers["mcp-session-id"] in self.sessions:
                self.sessions.remove(self.headers["mcp-session-id"])
            return await _respond(writer, 200)
        if method == "GET":
            return await self._resumed(writer)
        message = json.loads(body)
        if message.get("method") == "initialize":
            self.sessions.append(f"session-{len(self.paths)}")
            result = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}}}
            answer = _answer(message["id"], result | {"serverInfo": {"name": "test", "version": "1"}})
            return await _respond(writer, 200, answer, _JSON | {"mcp-session-id": self.sessions[-1]})
        if self.headers.get("mcp-session-id") not in self.sessions:
            return await _respond(
                writer, 404, _answer(None, error={"code": -32600, "message": "Session not found"}), _JSON
            )
        if message.get("method") != "tools/call":
            return await _respond(writer, 202)
        self.num_calls += 1
        return await self._called(message, reader, writer)

    async def _called(
        self, message: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        said, number = message["params"].get("arguments", {}).get("words", ""), message["id"]
        well = _answer(number, _text(said))
        match message["params"]["name"]:
            case "echo":
                return await _respond(writer, 200, well, _JSON)
            case "stream":
                notice = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": _NOTICE})
                return await _respond(writer, 200, f"data: {notice}\n\ndata: {well}\n\n", _SSE)
            case "ask":
                asked = {"jsonrpc": "2.0", "id": 7, "method": "roots/list"}
                return await _respond(writer, 200, f"data: {json.dumps(asked)}\n\ndata: {well}\n\n", _SSE)
            case "later" | "never":
                if message["params"]["name"] == "later":
                    self._later[str(number)] = well
                return await _respond(writer, 200, f"id: {number}\nretry: 0\ndata: \n\n", _SSE)
            case "fail":
                return await _respond(writer, 200, _answer(number, _text("it rained") | {"isError": True}), _JSON)
            case "none":
                error = {"code": -32601, "message": "no such tool"}
                return await _respond(writer, 200, _answer(number, error=error), _JSON)
            case "hang":
                await _hang(reader)
            case "die":
                return False
            case "cut":
                await _write(writer, _head(200, _JSON | {"content-length": "1000"}) + b'{"jsonrpc"')
            case "lie":
                await _write(writer, _head(200, _JSON | {"content-length": str(10**15)}) + b"{")
                await _hang(reader)
            case "shout":
                await _stream(writer, _JSON, _endless(b'"' + b"x" * 100_000))
            case "comment":
                await _stream(writer, _SSE, _endless(b": still here\n" * 1_000))
            case "trickle":
                await _write(writer, _head(200, _SSE))
                while not reader.at_eof():
                    await _write(writer, b": still here\n")
                    await asyncio.sleep(0.01)
            case "babble":
                notice = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": _NOTICE})
                await _stream(writer, _SSE, _endless(f"data: {notice}\n\n".encode()))
            case "page":
                return await _respond(writer, 200, "<html>Log in</html>", {"content-type": "text/html"})
            case "refuse":
                return await _respond(writer, 401, "<html>Who are you?</html>", {"content-type": "text/html"})
            case "redirect":
                return await _respond(writer, 307, headers={"location": "/elsewhere"})
            case "compress":
                return await _respond(writer, 200, "x" * 100, _JSON | {"content-encoding": "gzip"})
            case "mistake":
                return await _respond(writer, 200, _answer(10**9, _text(said)), _JSON)
            case "accept":
                return await _respond(writer, 202)
            case "mumble":
                await _write(writer, b"\x00\xff no HTTP at all" * 10)
            case "nest":
                return await _respond(writer, 200, "[" * 100_000, _JSON)
            case "head":
                await _stream(writer, {f"x-{each}": "y" * 100 for each in range(10_000)}, iter(()))
            case "cookie":
                return await _respond(writer, 200, well, _JSON | {"set-cookie": f"{'c' * 50}={said}; Path=/"})
        return False

    async def _resumed(self, writer: asyncio.StreamWriter) -> bool:
        self.num_resumed += 1
        before = self.headers.get("last-event-id", "")
        later = self._later.get(before)
        text = f"data: {later}\n\n" if later else f"id: {before}\nretry: 0\ndata: \n\n"
        return await _respond(writer, 200, text, _SSE)


_NOTICE = {"level": "info", "data": "working"}


def _text(said: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}]}


def _answer(number: object, result: object = None, *, error: object = None) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number} | ({"error": error} if error else {"result": result}))


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode()


def _endless(chunk: bytes) -> Iterator[bytes]:
    while True:
        yield chunk


async def _respond(
    writer: asyncio.StreamWriter, status: int, text: str = "", headers: dict[str, str] | None = None
) -> bool:
    body = text.encode()
    await _write(writer, _head(status, (headers or {}) | {"content-length": str(len(body))}) + body)
    return True


async def _stream(writer: asyncio.StreamWriter, headers: dict[str, str], chunks: Iterator[bytes]) -> None:
    """Until whoever reads goes."""
    await _write(writer, _head(200, headers))
    for chunk in chunks:
        await _write(writer, chunk)


async def _write(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(content)
    await writer.drain()


async def _hang(reader: asyncio.StreamReader) -> None:
    """Until whoever asks goes."""
    await reader.read()
