"""What a client is told went wrong, in the shape that OpenAI's clients read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.responses import Response

from conclave.errors import ConclaveError


@dataclass(eq=False)
class ApiError(ConclaveError):
    """An answer other than 2xx. `param` is the field at fault, `code` a word for programs, `conclave` what else is told."""

    status: int
    message: str
    code: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    conclave: object = None

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.message}"

    @property
    def kind(self) -> str:
        """OpenAI's word for whose fault it is."""
        match self.status:
            case 401:
                return "authentication_error"
            case 403:
                return "permission_error"
            case 429:
                return "rate_limit_error"
            case status if status < 500:
                return "invalid_request_error"
            case _:
                return "server_error"

    @property
    def body(self) -> bytes:
        """The error as JSON."""
        told: dict[str, Any] = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        if self.conclave is not None:
            told["conclave"] = self.conclave
        return msgspec.json.encode({"error": told})

    def response(self) -> Response:
        """The answer that says so."""
        return Response(self.body, self.status, headers=dict(self.headers), media_type="application/json")


def not_found(what: str, code: str = "not_found", param: str | None = None) -> ApiError:
    """For what does not exist, or not for this client."""
    return ApiError(404, what, code, param)


def key_reused() -> ApiError:
    """For an idempotency key that came with something else before."""
    message = "this idempotency key was sent with another request before"
    return ApiError(409, message, "idempotency_key_reused", "Idempotency-Key", {"x-should-retry": "false"})


def away(dependency: str) -> ApiError:
    """For when Kafka or Postgres is away: nothing was lost, and the same call may be made again."""
    return ApiError(503, f"{dependency} is away; try again", "dependency_away", headers={"Retry-After": "2"})
