"""The API as a table: method, path, who may, what is sent and what comes back. Routes and the OpenAPI document follow."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from conclave.domain.api_keys import Scope
from conclave.errors import LostDependency
from services.gateway import metrics
from services.gateway.access import Access
from services.gateway.batches import BatchApi
from services.gateway.bodies import (
    AskBody,
    Batch,
    BatchBody,
    Batches,
    ChatBody,
    ChatCompletion,
    FeedbackBody,
    FeedbackState,
    File,
    FileDeleted,
    Files,
    Model,
    Models,
    RequestState,
    RequestTrace,
)
from services.gateway.calls import Call, call_of
from services.gateway.chat import Chat
from services.gateway.errors import ApiError
from services.gateway.files import MAX_LISTED, ORDERS, PURPOSES, FileApi
from services.gateway.requests import MAX_WAIT_S, Requests
from services.gateway.results import Result
from services.gateway.trial_bodies import ExperimentList, ExperimentReport
from services.gateway.trials import Experiments

Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of a query, and the JSON Schema of what it may be."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """A row of the table. `answers` is None where server-sent events come back."""

    method: str
    path: str
    scope: Scope
    handler: Handler
    summary: str
    answers: type | None
    status: int = 200
    body: type | None = None
    query: tuple[Query, ...] = ()
    sends_file: bool = False  # a form with a file instead of a body
    is_idempotent: bool = False  # by the header Idempotency-Key
    otherwise: tuple[int, ...] = ()  # other statuses with the same answer
    sends_lines: bool = False  # JSON, a line each
    streams: bool = False  # it may, besides answering as a whole
    bare: tuple[int, ...] = ()  # statuses without a body
    headers: tuple[str, ...] = ()  # that it reads, besides those of all


def api_routes(
    requests: Requests, chat: Chat, files: FileApi, batches: BatchApi, experiments: Experiments
) -> tuple[ApiRoute, ...]:
    """The table."""
    ask, feedback, admin = Scope.ASK, Scope.FEEDBACK, Scope.ADMIN
    # fmt: off
    return (
        ApiRoute("POST", "/v1/requests", ask, requests.ask, "Ask a question", RequestState, 202, AskBody, is_idempotent=True),
        ApiRoute("GET", "/v1/requests/{request_id}", ask, requests.state, "Where a request is", RequestState, query=(_WAIT,)),
        ApiRoute("GET", "/v1/requests/{request_id}/result", ask, requests.result, "What came of a request", Result),
        ApiRoute("GET", "/v1/requests/{request_id}/trace", ask, requests.trace, "How a request came about", RequestTrace),
        ApiRoute("POST", "/v1/requests/{request_id}/cancel", ask, requests.cancel, "Have a request end", RequestState, 202,
                 otherwise=(200,)),
        ApiRoute("GET", "/v1/requests/{request_id}/events", ask, requests.events, "All that happens to a request", None,
                 streams=True, bare=(204,), headers=("Last-Event-ID",)),
        ApiRoute("POST", "/v1/feedback", feedback, requests.feedback, "Say what an answer was worth", FeedbackState, 202,
                 FeedbackBody, is_idempotent=True),
        ApiRoute("POST", "/v1/chat/completions", ask, chat.complete, "OpenAI's chat completions", ChatCompletion, 200, ChatBody,
                 is_idempotent=True, streams=True),
        ApiRoute("GET", "/v1/models", ask, chat.models, "Every policy, as a model", Models),
        ApiRoute("GET", "/v1/models/{model}", ask, chat.model, "One policy, as a model", Model),
        ApiRoute("POST", "/v1/files", ask, files.upload, "Keep a file of requests", File, sends_file=True, is_idempotent=True),
        ApiRoute("GET", "/v1/files", ask, files.list_, "Files, the latest first", Files,
                 query=(_limit(MAX_LISTED, MAX_LISTED), _AFTER, _ORDER, _PURPOSE)),
        ApiRoute("GET", "/v1/files/{file_id}", ask, files.file, "A file", File),
        ApiRoute("DELETE", "/v1/files/{file_id}", ask, files.delete, "Drop a file", FileDeleted),
        ApiRoute("GET", "/v1/files/{file_id}/content", ask, files.content, "What is in a file", None, sends_lines=True),
        ApiRoute("POST", "/v1/batches", ask, batches.create, "Ask all that is in a file", Batch, 200, BatchBody,
                 is_idempotent=True),
        ApiRoute("GET", "/v1/batches", ask, batches.list_, "Batches, the latest first", Batches, query=(_limit(20, 100), _AFTER)),
        ApiRoute("GET", "/v1/batches/{batch_id}", ask, batches.state, "How far a batch is", Batch),
        ApiRoute("POST", "/v1/batches/{batch_id}/cancel", ask, batches.cancel, "Ask nothing more of a batch", Batch),
        ApiRoute("GET", "/v1/experiments", admin, experiments.list_, "Every experiment", ExperimentList),
        ApiRoute("GET", "/v1/experiments/{name}", admin, experiments.report, "What an experiment has shown", ExperimentReport),
    )
    # fmt: on


_WAIT = Query("wait_s", {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0})
_AFTER = Query("after", {"type": "string"})
_ORDER = Query("order", {"type": "string", "enum": list(ORDERS), "default": ORDERS[0]})
_PURPOSE = Query("purpose", {"type": "string", "enum": list(PURPOSES)})


def _limit(default: int, most: int) -> Query:
    return Query("limit", {"type": "integer", "minimum": 1, "maximum": most, "default": default})


def mounted(table: Sequence[ApiRoute], access: Access) -> list[BaseRoute]:
    """The table's routes, each behind its check of who calls."""
    served = [Route(row.path, _endpoint(row, access), methods=[row.method]) for row in table]
    taken = defaultdict[str, set[str]](set)
    for route in served:
        taken[route.path] |= route.methods or set()
    # Behind them all stand the pages, which would say that there is nothing here.
    return [*served, *(Route(path, _OtherMethods(methods, access)) for path, methods in taken.items())]


class _OtherMethods:
    """What answers at an address of the API to methods that it does not take: that to who is let in."""

    def __init__(self, taken: Collection[str], access: Access) -> None:
        self._allow, self._access = ", ".join(sorted(taken)), access

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Raises: HTTPException that names those that it takes, ApiError for who is not let in, LostDependency."""
        await self._access.caller(Request(scope))
        raise HTTPException(405, headers={"Allow": self._allow})


def _endpoint(row: ApiRoute, access: Access) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        started = time.monotonic()
        status = 500  # of what is no refusal, and no answer
        try:
            call = await call_of(request, access, row.scope, row.body, sends_file=row.sends_file)
            response = await row.handler(call)
            status = response.status_code
        except ApiError as error:
            status = error.status
            raise
        except (LostDependency, asyncio.CancelledError):
            status = 503
            raise
        except ClientDisconnect:
            status = 499  # as others name it: nobody is there to be answered
            raise
        finally:
            metrics.CALLS.labels(row.method, row.path, status).inc()
            metrics.CALL_SECONDS.labels(row.method, row.path).observe(time.monotonic() - started)
        return response

    return endpoint
