"""What a client may send, and how long it may take over it: checked before any handler sees the request."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.errors import ApiError
from services.gateway.settings import GatewaySettings

FILES_PATH = "/v1/files"


class Limits:
    """Middleware: 431 for headers, 413 and 408 for bodies; a client that takes nothing more is let go."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, or answers why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            async with asyncio.timeout(self._settings.gateway_client_timeout_s):
                await send(message)

        try:
            self._check_head(scope)
            await self._app(scope, self._counted(receive, self._most(scope)), sending)
        except ApiError as error:
            if started:
                raise
            # What is left of the body is not read: the connection can't be used again.
            error.headers = {**error.headers, "Connection": "close"}
            await error.response()(scope, receive, send)
        except TimeoutError:
            if not started:
                raise

    def _check_head(self, scope: Scope) -> None:
        headers = scope["headers"]
        if scope["http_version"] not in ("1.0", "1.1"):
            raise ApiError(505, "HTTP/1.1 is spoken here", "http_version")
        names = {name for name, _ in headers}
        if {b"content-length", b"transfer-encoding"} <= names:
            # RFC 9112, 6.1: what stands between us and the client may have read it otherwise.
            raise ApiError(400, "a body has a length or comes in chunks, not both", "ambiguous_length")
        size = sum(len(name) + len(value) + 4 for name, value in headers) + len(scope["raw_path"])
        if len(headers) > self._settings.gateway_max_headers or size > self._settings.gateway_max_header_bytes:
            raise ApiError(431, "too many or too large headers", "headers_too_large")
        most = self._most(scope)
        length = next((value for name, value in headers if name == b"content-length"), b"0")
        if int(length) > most:
            raise _too_large(most)

    def _most(self, scope: Scope) -> int:
        """How large a body may be."""
        is_file = scope["path"] == FILES_PATH and scope["method"] == "POST"
        return self._settings.gateway_max_file_bytes if is_file else self._settings.gateway_max_body_bytes

    def _counted(self, receive: Receive, most: int) -> Receive:
        num_bytes, is_whole = 0, False

        async def counted() -> Message:
            nonlocal num_bytes, is_whole
            if is_whole:
                return await receive()  # a disconnect, whenever it comes
            try:
                async with asyncio.timeout(self._settings.gateway_client_timeout_s):
                    message = await receive()
            except TimeoutError:
                raise ApiError(408, "the body did not come in time", "request_timeout") from None
            num_bytes += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if num_bytes > most:
                raise _too_large(most)
            return message

        return counted


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"a body of at most {limit:,} bytes is taken", "body_too_large")
