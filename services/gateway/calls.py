"""A call of the API: who calls, what was sent, and how it is read."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from conclave.domain.api_keys import Scope
from schemas.codec import at_fault
from schemas.ids import canonical_uuid, is_request_id
from services.gateway.access import Access, Caller
from services.gateway.asking import Sent
from services.gateway.errors import ApiError, not_found

MAX_IDEMPOTENCY_KEY_CHARS = 256
_SHOWABLE = re.compile(r"[\x21-\x7e]+")
B = TypeVar("B")


async def _is_let_in() -> None:
    """Of a call that nobody has looked at."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `body` is of the type that its route says."""

    request: Request
    caller: Caller
    body: Any = None
    check: Callable[[], Awaitable[None]] = (
        _is_let_in  # Raises: ApiError once its caller is let in no more, LostDependency
    )

    @property
    def sent(self) -> Sent:
        """What its headers say. Raises: ApiError."""
        headers = self.request.headers
        key = headers.get("idempotency-key")
        if key is not None and not (_SHOWABLE.fullmatch(key) and len(key) <= MAX_IDEMPOTENCY_KEY_CHARS):
            message = f"1 to {MAX_IDEMPOTENCY_KEY_CHARS} visible ASCII characters are expected"
            raise ApiError(400, message, "invalid_idempotency_key", "Idempotency-Key")
        return Sent(key, headers.get("traceparent"))

    @property
    def request_id(self) -> str:
        """The request that its path names. Raises: ApiError."""
        named = canonical_uuid(self.request.path_params["request_id"])
        if not is_request_id(named):
            raise not_found("there is no request of that id here", "request_not_found", "request_id")
        return named

    def number(self, name: str, *, default: float, low: float, high: float) -> float:
        """A number of its query. Raises: ApiError."""
        text = self.request.query_params.get(name)
        try:
            value = default if text is None else float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ApiError(400, f"a number from {low:g} to {high:g} is expected", "invalid_query", name)
        return value


async def call_of(
    request: Request, access: Access, scope: Scope, body: type | None, *, sends_file: bool = False
) -> Call:
    """The call that a request is, all of it read but for a file: from then on its client's leaving is all that is left to hear.

    Raises: ApiError, LostDependency.
    """
    caller = await access.caller(request)
    caller.require(scope)
    sent = b"" if sends_file else await request.body()

    async def check() -> None:
        (await access.caller(request)).require(scope)

    return Call(request, caller, read(sent, body) if body is not None else None, check)


def read(body: bytes, wanted: type[B]) -> B:
    """The body as it is wanted. Raises: ApiError that names the field."""
    try:
        return msgspec.json.decode(body, type=wanted)
    except msgspec.ValidationError as error:
        path, message = at_fault(error)
        field = path.removeprefix("$").removeprefix(".")
        told: Mapping[str, str] = getattr(wanted, "WHY_NOT", {})  # in words, where the type alone says too little
        raise ApiError(400, told.get(field, message), "invalid_value", field or None) from None
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply", "invalid_json") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the body is no JSON: {error}", "invalid_json") from None


def answered(value: object, status: int = 200, **headers: str) -> Response:
    """An answer in JSON."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(msgspec.json.encode(value), status, headers=named, media_type="application/json")
