"""HTTP for operators: /live, /ready and /metrics, served by a thread of its own, so that they answer while the loop is stuck."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import make_wsgi_app

from conclave.runtime import metrics

_STUCK_S = 30.0
_BEAT_S = 0.25


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


class Health:
    """Live: the event loop has turned within 30 s. Ready: live, and the service says so."""

    def __init__(self, service: str, status: Callable[[], dict[str, object]]) -> None:
        self._service, self._status = service, status
        self._beat = time.monotonic()
        self._metrics = make_wsgi_app()
        self._server: WSGIServer | None = None

    def serve(self, host: str, port: int) -> int:
        """The port that the endpoints are served on from now. Raises: OSError when it is taken."""
        self._server = make_server(host, port, self._app, handler_class=_Quiet)
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
        return int(self._server.server_port)

    def close(self) -> None:
        """Stops serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    async def watch(self) -> None:
        """Beats while the event loop turns, and measures how late it does; until cancelled."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(_BEAT_S)
            self._beat = time.monotonic()
            metrics.LOOP_DELAY_SECONDS.observe(max(0.0, self._beat - before - _BEAT_S))

    def _app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match environ.get("PATH_INFO"):
            case "/metrics":
                body: Iterable[bytes] = self._metrics(environ, start_response)
                return body
            case "/live":
                return self._respond(start_response, self._is_live, {"service": self._service})
            case "/ready":
                status = self._status()
                return self._respond(
                    start_response, self._is_live and bool(status.get("ready")), {"service": self._service, **status}
                )
            case _:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"/live, /ready or /metrics\n"]

    @property
    def _is_live(self) -> bool:
        return time.monotonic() - self._beat < _STUCK_S

    @staticmethod
    def _respond(start_response: StartResponse, is_good: bool, body: dict[str, object]) -> Iterable[bytes]:
        start_response("200 OK" if is_good else "503 Service Unavailable", [("Content-Type", "application/json")])
        return [json.dumps({**body, "ok": is_good}).encode() + b"\n"]
