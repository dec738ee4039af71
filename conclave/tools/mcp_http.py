"""An MCP server over streamable HTTP: the library's own client, on a transport that bounds each exchange.

Whatever the server does, an exchange is over when a call's limit is, its body is read up to a bound, and what ails it becomes a
JSON-RPC error that names it, for this one call. Refused are redirects (what a request carries is meant for the listed URL),
compressed bodies (a bound on what is read would be none on what comes of it), and cookies (they would add up). The stream on which
a server speaks unasked is not opened: nothing that it could say there is used.
"""

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import msgspec
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client
from mcp.shared.message import SessionMessage

from conclave.tools.mcp_servers import McpServer, values_of

MAX_BODY_BYTES = 1_048_576
MAX_RESUMED = 100  # times that answers are fetched further on, between two requests
_GOODBYE_S = 1.0
_IDLE_CONNECTION_S = 2.0  # less than servers keep theirs open, so that none is closed as it is used
_MAX_CONNECTIONS = 32
_NO_ERROR_BELOW = 400

# What it would log has answers in it.
logging.getLogger("mcp.client.streamable_http").setLevel(logging.CRITICAL + 1)


class BrokenBody(httpx2.StreamError):
    """A body that was not read to its end; of the kind that the library tells the one call that wants it."""


class HttpWay:
    """See the module's docstring."""

    wears_out = True  # the library waits on for the answer to a call that was given up

    def __init__(self, name: str, server: McpServer) -> None:
        self._name, self._server = name, server
        self.forgotten = secrets.token_hex(8)  # no server can guess it

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[AsyncIterator[SessionMessage | None], Any]]:
        """Nothing is sent yet. On leaving the server is told, if it has a session. Raises: Misconfigured, for a header's value."""
        headers = {**values_of(self._server.headers), "accept-encoding": "identity"}
        limits = httpx2.Limits(
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_MAX_CONNECTIONS,
            keepalive_expiry=_IDLE_CONNECTION_S,
        )
        bounded = BoundedTransport(httpx2.AsyncHTTPTransport(limits=limits), self._server.limit_s, self.forgotten)
        async with (
            httpx2.AsyncClient(
                transport=bounded, headers=headers, timeout=self._server.limit_s, trust_env=False
            ) as client,
            streamable_http_client(self._server.url, http_client=client, max_sse_event_size=MAX_BODY_BYTES) as streams,
        ):
            yield _messages(streams[0]), streams[1]


async def _messages(said: Any) -> AsyncIterator[SessionMessage | None]:
    async for each in said:
        yield each if isinstance(each, SessionMessage) else None


class BoundedTransport(httpx2.AsyncBaseTransport):
    """See the module's docstring. `forgotten` is the `data` of the error for a session that the server knows no more."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, limit_s: float, forgotten: str) -> None:
        self._inner, self._limit_s, self._forgotten = inner, limit_s, forgotten
        self._num_resumed = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The server's response, bounded, or one that says what was wrong with it."""
        limit_s = self._limit_s if request.method != "DELETE" else min(self._limit_s, _GOODBYE_S)
        if request.method == "GET" and not self._may_resume(request):
            return self._refusal(405, "no answer is to be fetched")
        if request.method == "POST":
            self._num_resumed = 0
        ends_at = anyio.current_time() + limit_s
        try:
            with anyio.fail_after(limit_s):
                response = await self._inner.handle_async_request(request)
        except TimeoutError:
            return self._refusal(504, f"no answer within {limit_s:g} s")
        except httpx2.TransportError as error:  # by its kind: its text may have a header's value
            return self._refusal(502, type(error).__name__)
        refusal = self._refused(request, response)
        if refusal is not None:
            await response.aclose()
            return refusal
        kept = [(name, value) for name, value in response.headers.raw if name.lower() != b"set-cookie"]
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        return httpx2.Response(response.status_code, headers=kept, stream=_BoundedStream(response.stream, ends_at))

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._inner.aclose()

    def _may_resume(self, request: httpx2.Request) -> bool:
        self._num_resumed += 1
        return "last-event-id" in request.headers and self._num_resumed <= MAX_RESUMED

    def _refused(self, request: httpx2.Request, response: httpx2.Response) -> httpx2.Response | None:
        status = response.status_code
        if 300 <= status < _NO_ERROR_BELOW:
            return self._refusal(502, f"HTTP {status}, and a redirect is not followed")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            return self._refusal(502, "a compressed answer, which was not asked for")
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
            return self._refusal(502, f"an answer of more than {MAX_BODY_BYTES:,} bytes")
        if status == 404 and MCP_SESSION_ID in request.headers:
            return self._refusal(status, "HTTP 404: it knows no such session", self._forgotten)
        if status >= _NO_ERROR_BELOW and not response.headers.get("content-type", "").startswith("application/json"):
            return self._refusal(status, f"HTTP {status}")
        return None

    def _refusal(self, status: int, why: str, data: str | None = None) -> httpx2.Response:
        error = {"code": -32_000, "message": why} | ({"data": data} if data is not None else {})
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error})
        return httpx2.Response(status, headers={"content-type": "application/json"}, content=body)


class _BoundedStream(httpx2.AsyncByteStream):
    """A body up to `MAX_BODY_BYTES`, and no longer than until `ends_at`. Raises: BrokenBody."""

    def __init__(self, inner: httpx2.AsyncByteStream, ends_at: float) -> None:
        self._inner, self._ends_at = inner, ends_at

    async def __aiter__(self) -> AsyncIterator[bytes]:
        num_bytes = 0
        chunks = aiter(self._inner)
        while True:
            try:
                with anyio.fail_after(self._ends_at - anyio.current_time()):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                raise BrokenBody("its answer had no end within its limit") from None
            except httpx2.TransportError as error:
                raise BrokenBody(f"its answer broke off: {type(error).__name__}") from None
            if chunk is None:
                return
            num_bytes += len(chunk)
            if num_bytes > MAX_BODY_BYTES:
                raise BrokenBody(f"an answer of more than {MAX_BODY_BYTES:,} bytes")
            yield chunk

    async def aclose(self) -> None:
        with contextlib.suppress(httpx2.TransportError):
            await self._inner.aclose()
