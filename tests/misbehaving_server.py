"""A model server on the loopback interface that answers each call as it is told, down to the bytes: for tests and benchmarks."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]

_TURNS_TO_ACCEPT = 3  # of the loop, until a connection that its server has taken from the system is told to us


@dataclass
class Exchange:
    """One call: what was asked, and where the answer goes."""

    number: int  # of the calls of this server, from 0
    path: str
    headers: dict[str, str]
    body: Json
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()


Reply = Callable[[Exchange], Awaitable[None]]


@dataclass
class MisbehavingServer:
    """Answers its calls with `replies` in turn, the last of them for ever."""

    replies: Sequence[Reply]
    port: int = 0
    calls: list[Exchange] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _connections: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """What CONCLAVE_OPENAI_BASE_URL is set to."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Listens, on the port that it had before, if any."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuses connections from now on, and cuts those that there are."""
        assert self._server is not None
        for listening in self._server.sockets:  # CPython 3.11 leaks what it accepts just before its server is closed
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(_TURNS_TO_ACCEPT):
            await asyncio.sleep(0)
        self._server.close()
        serving, self._connections = self._connections, {}
        for task, writer in serving.items():
            task.cancel()  # perhaps before its first step, so that nothing of it runs
            writer.transport.abort()
        await asyncio.gather(*serving, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(lambda ended: self._connections.pop(ended, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            call = Exchange(len(self.calls), head[0].split()[1], headers, json.loads(body or b"{}"), writer)
            self.calls.append(call)
            await self.replies[min(call.number, len(self.replies) - 1)](call)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        writer.close()


# -- replies ----------------------------------------------------------------------------------------------------------


def http(status: int, body: bytes | str, kind: str = "application/json", **headers: str) -> Reply:
    """An answer of one piece; `x_y="z"` stands for the header x-y."""
    data = body if isinstance(body, bytes) else body.encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(data)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + data)


def error(status: int, message: str, **fields: object) -> Reply:
    """An error as OpenAI writes one."""
    return http(status, json.dumps({"error": {"message": message, "type": "invalid_request_error", **fields}}))


def raw(data: bytes) -> Reply:
    """These bytes, then the end of the connection."""

    async def reply(call: Exchange) -> None:
        await call.send(data)

    return reply


def stream(*events: Json | str | bytes, done: bool = True, kind: str = "text/event-stream", **headers: str) -> Reply:
    """A stream of these chunks; a string is the data of an event, bytes go as they are."""
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {kind}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    data = b"".join(event if isinstance(event, bytes) else _event(event) for event in (*events, *["[DONE]"] * done))
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + data)


def _event(event: Json | str) -> bytes:
    return b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n"


def then(*steps: Reply) -> Reply:
    """One reply after another on the same connection."""

    async def reply(call: Exchange) -> None:
        for step in steps:
            await step(call)

    return reply


async def silence(call: Exchange) -> None:
    """Nothing, for ever."""
    await asyncio.Event().wait()


async def reset(call: Exchange) -> None:
    """The connection is reset instead of closed."""
    linger = struct.pack("ii", 1, 0)
    call.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    call.writer.transport.abort()


async def hang_up(call: Exchange) -> None:
    """The connection is closed without an answer."""


def chunked(*pieces: bytes, is_ended: bool = True) -> Reply:
    """A stream in HTTP's chunked coding; without its last chunk it has been cut."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)
    return raw(head + body + (b"0\r\n\r\n" if is_ended else b""))


# -- what a well-behaved server says ----------------------------------------------------------------------------------


def chunk(content: Any = None, finish: str | None = None, **delta: object) -> dict[str, Any]:
    """A chunk of a chat completion."""
    said = {**delta} if content is None else {"content": content, **delta}
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


USAGE: Json = {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 8}}
GOOD = stream(chunk("6 * 7 = 42.\nAnswer: 42"), chunk(finish="stop"), USAGE)
