"""The web server as what a service's process runs: uvicorn, with limits on slow and on large clients."""

import asyncio
import fcntl
import socket
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h11
import structlog
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from conclave.errors import Misconfigured, WrongSetting
from services.gateway.errors import ApiError
from services.gateway.headers import SECURE_HEADERS, SecureHeaders
from services.gateway.settings import GatewaySettings

_KEEP_ALIVE_S = 5  # between two requests on one connection
_BUSY_RETRY_S = "5"
_END_S = 0.5  # for calls that were cancelled as it stops
_CLOSING = {"Cache-Control": "no-store", "Connection": "close"}

log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's business."""
        yield


class WebServer:
    """Serves `app` from `run` until `stop`; then running answers are given `drain_s` to end."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings, *, drain_s: float) -> None:
        self._settings = settings
        config = uvicorn.Config(
            app,
            http=_bounded(settings.gateway_client_timeout_s, settings.gateway_max_connections),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=settings.gateway_max_header_bytes,
            timeout_keep_alive=min(_KEEP_ALIVE_S, settings.gateway_client_timeout_s),  # type: ignore[arg-type]  # any delay
            timeout_graceful_shutdown=max(1, round(drain_s)),
        )
        self._server = _Server(config)
        self.port = settings.gateway_port

    @property
    def is_ready(self) -> bool:
        """True while it accepts connections."""
        return self._server.started and not self._server.should_exit

    def stop(self) -> None:
        """Has it accept no more, and end."""
        self._server.should_exit = True

    async def run(self) -> None:
        """Serves until stopped. Raises: Misconfigured when it can't listen where it is to."""
        listener = self._listen()
        self.port = listener.getsockname()[1]
        log.info("gateway_listening", host=self._settings.gateway_host, port=self.port)
        await self._server.serve(sockets=[listener])
        cancelled = tuple(self._server.server_state.tasks)
        if cancelled:  # they tell their clients so, and have what nobody waits for any more end
            await asyncio.wait(cancelled, timeout=_END_S)

    def _listen(self) -> socket.socket:
        host, port = self._settings.gateway_host, self._settings.gateway_port
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            listener = socket.socket(family, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((host, port))
            except OSError:
                listener.close()
                raise
        except OSError as error:
            expected = f"an address that this machine has, and a port that is free ({error.strerror})"
            raise Misconfigured([WrongSetting("CONCLAVE_GATEWAY_PORT", expected, f"{host}:{port}")]) from None
        return listener


def _bounded(timeout_s: float, max_connections: int) -> type[H11Protocol]:
    """uvicorn's protocol, which ends a connection whose client takes too long over a request that it has begun.

    uvicorn itself limits only the pause between two requests. The handler's own reads of a body, and what it sends bit by bit,
    are limited by services.gateway.limits; what no handler reads, and the last that it sent, here. What uvicorn would tell in
    plain text (that something is no HTTP, that there are too many connections) is told as any other error.
    """

    class Bounded(H11Protocol):
        _slow: asyncio.TimerHandle | None = None
        _taking: asyncio.TimerHandle | None = None
        _is_beyond = False

        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self._served: Any = self.app
            self.app = self._answer

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            # Those that were here before are served on.
            self._is_beyond = len(self.connections) > max_connections
            self._watch()
            self._watch_taking(0)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._unwatch()
            if self._taking is not None:
                self._taking.cancel()

        def send_400_response(self, msg: str) -> None:
            """Tells what is no HTTP so. Where an answer has begun, or is over, nothing can be told any more."""
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                response = ApiError(400, msg, "invalid_http", headers={**SECURE_HEADERS, **_CLOSING}).response()
                head = h11.Response(status_code=400, headers=response.raw_headers, reason=b"Bad Request")
                for each in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                    self.transport.write(self.conn.send(each) or b"")
            self.transport.close()

        async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
            """Has the application answer, as long as there is room."""
            is_full = self._is_beyond or len(self.tasks) > max_connections
            await (_full() if is_full else self._served)(scope, receive, send)

        def _watch(self) -> None:
            theirs, ours = self.conn.their_state, self.conn.our_state
            is_sending = theirs is h11.IDLE or (theirs is h11.SEND_BODY and ours is h11.DONE)
            if not is_sending:
                self._unwatch()
            elif self._slow is None:
                self._slow = self.loop.call_later(timeout_s, self._too_slow)

        def _unwatch(self) -> None:
            if self._slow is not None:
                self._slow.cancel()
                self._slow = None

        def _watch_taking(self, num_before: int) -> None:
            """Ends the connection once its client takes nothing of an answer that is over: all may have been sent long since.

            While it is under way more is sent as some is taken, so that as much may lie there again.
            """
            is_over = self.cycle is None or self.cycle.response_complete
            num_bytes = self.transport.get_write_buffer_size() + _untaken(self.transport) if is_over else 0
            if num_bytes and num_bytes == num_before:
                log.info("client_takes_nothing", client=self.client)
                self.transport.abort()
            else:
                self._taking = self.loop.call_later(timeout_s, self._watch_taking, num_bytes)

        def _too_slow(self) -> None:
            self._slow = None
            if not self.transport.is_closing():
                log.info("client_too_slow", client=self.client)
                self.transport.close()

    return Bounded


def _untaken(transport: asyncio.BaseTransport) -> int:
    """How many bytes the system has that their client has not taken yet; 0 where it does not tell."""
    count = bytearray(4)
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, count)
    except (OSError, ValueError):
        return 0
    return int.from_bytes(count, sys.byteorder)


def _full() -> ASGIApp:
    """What answers where there are as many connections as may be."""
    message, headers = "too many are connected here; try again", {"Retry-After": _BUSY_RETRY_S, **_CLOSING}
    return SecureHeaders(ApiError(503, message, "gateway_busy", headers=headers).response())
