"""Where a mistake of the gateway's own ends: in its log, and in a 500 that tells nothing of it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conclave.errors import ConclaveError, LostDependency
from services.gateway.errors import ApiError

log = structlog.get_logger(__name__)


def internal_error() -> ApiError:
    """What is told of a mistake."""
    return ApiError(500, "the gateway failed at this; its log says why", "internal_error")


def stopping() -> ApiError:
    """What is told of a call that a gateway which stops can't wait for."""
    return ApiError(503, "the gateway stops; try again", "gateway_stops", headers={"Retry-After": "2"})


@contextmanager
def surviving(event: str, **known: object) -> Iterator[None]:
    """Has a mistake end in the log as `event`, and with it no loop that runs for all clients. LostDependency passes."""
    try:
        yield
    except LostDependency:
        raise
    except Exception as error:
        log.exception(event, error=type(error).__name__, **known)


class Failures:
    """Middleware. What has begun to be answered breaks off there, so that a client knows that it is not whole.

    A client that leaves while it sends is no mistake, and a gateway that stops says so.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on."""
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            log.info("client_left", method=scope.get("method"))
        except asyncio.CancelledError:
            if not has_begun:
                await stopping().response()(scope, receive, send)
            raise
        except Exception as error:
            if has_begun and isinstance(error.__cause__, ConclaveError):
                # It was foreseen, and Starlette can't tell it any more.
                log.info("answer_broken_off", method=scope.get("method"), why=str(error.__cause__))
                return
            log.exception("request_broken", method=scope.get("method"), error=type(error).__name__)
            if not has_begun:
                await internal_error().response()(scope, receive, send)
