"""The gateway over a log, a ledger and a record in memory, on a real socket: what its unit tests talk to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.responses import Response

from conclave.domain.api_keys import ID_BYTES, SECRET_BYTES, ApiKey, Pass, Scope
from conclave.domain.redaction import Mask, masker
from conclave.errors import LostDependency
from conclave.policies import shipped
from conclave.runtime.attempts import Dependencies
from conclave.store.accounts import Account
from conclave.store.happenings import Happening
from conclave.store.ledger import Entered, Entry, KeyReused, Limits, OverLimit
from conclave.store.reader import Reader
from conclave.testing import events as made
from conclave.testing.waiting import until
from schemas.events import AnswerReached, Event, ReasoningRequested, RequestCancelled, RequestFailed
from schemas.values import RequestFailure
from services.gateway.access import COOKIE, Access
from services.gateway.answers import Answers
from services.gateway.app import Site, make_app
from services.gateway.asking import Asking
from services.gateway.batch_runner import BatchRunner
from services.gateway.batches import BatchApi
from services.gateway.calls import Call
from services.gateway.cancelling import Cancelling
from services.gateway.chat import Chat
from services.gateway.files import FileApi
from services.gateway.follower import Follower
from services.gateway.mcp_door import McpDoor
from services.gateway.requests import Requests
from services.gateway.routes import ApiRoute, api_routes
from services.gateway.server import WebServer
from services.gateway.settings import GatewaySettings
from services.gateway.trials import Experiments
from tests.batches_in_memory import MemoryBatches, MemoryFiles, row_of
from tests.memory_view import MemoryTrials

DSN = "postgresql://nobody@127.0.0.1:1/none"
NO_LIMITS = Limits()
End = AnswerReached | RequestFailed


@dataclass
class MemoryRecord:
    """The record: what was published and ended, and what a test lets happen."""

    asked: dict[str, ReasoningRequested] = field(default_factory=dict)
    ended: dict[str, End] = field(default_factory=dict)
    happened: dict[str, list[Happening]] = field(default_factory=dict)
    blanked: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_away: bool = False

    def _check(self) -> None:
        if self.is_away:
            raise LostDependency("postgres", "it is away")

    async def of(self, request_ids: Collection[str]) -> dict[str, list[Happening]]:
        self._check()
        return {each: self.happened[each] for each in request_ids if each in self.happened}

    async def ends(self, request_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        self._check()
        return {
            each: row_of(self.ended[each]) | self.blanked.get(each, {}) for each in request_ids if each in self.ended
        }

    def blank(self, request_id: str) -> None:
        """Erases what was answered."""
        self.blanked[request_id] = {"answer": None, "tally": (), "steps": (), "content": "erased"}

    async def request(self, request_id: str) -> dict[str, Any] | None:
        self._check()
        asked = self.asked.get(request_id)
        return (
            None
            if asked is None
            else {
                "question": asked.question,
                "policy": asked.policy,
                "tags": asked.tags,
                "deadline_s": asked.deadline_s,
            }
        )


@dataclass
class MemoryLedger:
    """The ledger, in one process."""

    entries: dict[str, Entry] = field(default_factory=dict)
    open: Callable[[str], bool] = lambda request_id: True
    spent: Callable[[str], int] = lambda tenant: 0  # tokens, of a tenant
    retry_after_s: float = 12.0

    async def enter(self, entry: Entry, limits: Limits) -> Entered | KeyReused | OverLimit:
        for known in self.entries.values():
            if entry.idempotency_key is not None and (known.tenant, known.idempotency_key) == (
                entry.tenant,
                entry.idempotency_key,
            ):
                is_same = known.digest == entry.digest
                return Entered(known.request_id, is_new=False) if is_same else KeyReused(known.request_id)
        own = [known for known in self.entries.values() if known.tenant == entry.tenant]
        if limits.rate_per_minute is not None and len(own) >= limits.rate_per_minute:
            return OverLimit("requests per minute", limits.rate_per_minute, self.retry_after_s)
        if limits.max_open is not None and sum(self.open(known.request_id) for known in own) >= limits.max_open:
            return OverLimit("requests open at once", limits.max_open, 2.0)
        if limits.tokens_per_day is not None and self.spent(entry.tenant) >= limits.tokens_per_day:
            return OverLimit("generated tokens in 24 hours", limits.tokens_per_day, 3600.0)
        self.entries[entry.request_id] = entry
        return Entered(entry.request_id, is_new=True)

    async def withdraw(self, request_id: str) -> None:
        del self.entries[request_id]

    async def owners(self, request_ids: Collection[str]) -> Mapping[str, str]:
        return {each: self.entries[each].tenant for each in request_ids if each in self.entries}


@dataclass
class MemoryAccounts:
    """Tenants' keys."""

    accounts: dict[str, Account] = field(default_factory=dict)
    is_away: bool = False

    def add(
        self,
        tenant: str,
        *scopes: Scope,
        limits: Limits = NO_LIMITS,
        is_redacted: bool = True,
        is_kept: bool = True,
        most_urgent: str = "interactive",
    ) -> ApiKey:
        """A key in force."""
        key = ApiKey.of(len(self.accounts).to_bytes(1, "big") * (ID_BYTES + SECRET_BYTES))
        self.accounts[key.key_id] = Account(
            key.key_id, tenant, frozenset(scopes), limits, is_redacted, is_kept, most_urgent, key.digest
        )
        return key

    async def find(self, key_id: str) -> Account | None:
        if self.is_away:
            raise LostDependency("postgres", "it is away")
        return self.accounts.get(key_id)

    async def has_keys(self) -> bool:
        return bool(self.accounts)


@dataclass
class MemorySignIns:
    """Who is signed in."""

    keys: dict[bytes, str] = field(default_factory=dict)

    async def begin(self, digest: bytes, key_id: str, lifetime: timedelta) -> None:
        self.keys[digest] = key_id

    async def key_of(self, digest: bytes) -> str | None:
        return self.keys.get(digest)

    async def end(self, digest: bytes) -> None:
        self.keys.pop(digest, None)


@dataclass
class MemoryCancellations:
    """Cancellations that wait for the log: what is in here outlives a gateway."""

    noted: dict[str, RequestCancelled] = field(default_factory=dict)
    is_away: bool = False

    def _check(self) -> None:
        if self.is_away:
            raise LostDependency("postgres", "it is away")

    async def add(self, cancellations: Collection[RequestCancelled]) -> None:
        self._check()
        self.noted |= {str(each.request_id): each for each in cancellations}

    async def waiting(self, limit: int) -> list[RequestCancelled]:
        self._check()
        return list(self.noted.values())[:limit]

    async def drop(self, request_ids: Collection[str]) -> None:
        self._check()
        for each in request_ids:
            self.noted.pop(each, None)


@dataclass
class World:
    """All that the gateway stands on, and the gateway. `answer` says what a request comes to; None: nothing yet."""

    answer: Callable[[ReasoningRequested], End | None] = lambda request: None
    record: MemoryRecord = field(default_factory=MemoryRecord)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    accounts: MemoryAccounts = field(default_factory=MemoryAccounts)
    sign_ins: MemorySignIns = field(default_factory=MemorySignIns)
    batch_open: int = 64
    files: MemoryFiles = field(default_factory=MemoryFiles)
    max_tenant_file_bytes: int = 2**30
    answers: Answers = field(default_factory=Answers)
    cancellations: MemoryCancellations = field(default_factory=MemoryCancellations)
    published: list[Event] = field(default_factory=list)
    event_ids: list[str | None] = field(default_factory=list)
    is_log_away: bool = False
    max_waiting: int = 1000
    mask: Mask = field(default_factory=masker)
    is_mask_slow: bool = False
    host: str = "127.0.0.1"
    settings: dict[str, object] = field(default_factory=dict)  # of the gateway's, besides
    url: str = ""
    app: Starlette | None = None  # while it serves

    async def publish(self, event: Event, *, event_id: str | None = None, traceparent: str | None = None) -> None:
        """The log: what is published is recorded at once, and answered as `answer` says."""
        if self.is_log_away:
            raise LostDependency("kafka", "it is away")
        self.published.append(event)
        self.event_ids.append(event_id)
        if isinstance(event, RequestCancelled):
            failure = RequestFailure.CANCELLED
            self.end(RequestFailed(request_id=event.request_id, failure=failure, message="it was cancelled"))
        if isinstance(event, ReasoningRequested):
            self.record.asked[str(event.request_id)] = event
            end = self.answer(event)
            if end is not None:
                asyncio.get_running_loop().call_soon(self.end, end)

    def signed_in(self, key: ApiKey) -> dict[str, str]:
        """The header that a browser sends after someone has signed in with this key."""
        held = Pass.of(len(self.sign_ins.keys).to_bytes(1, "big") * SECRET_BYTES)
        self.sign_ins.keys[held.digest] = key.key_id
        return {"Cookie": f"{COOKIE}={held.secret}"}

    def end(self, end: End, *, is_heard: bool = True) -> None:
        """Ends a request, in the record and, unless nobody hears it, in the log."""
        self.record.ended[end.request_id] = end
        if is_heard:
            self.answers.hear(end)

    def __post_init__(self) -> None:
        self.batches = MemoryBatches(self.record, self.cancellations)
        self.cancelling = Cancelling(self, self.cancellations, pause_s=0.02)

    def _parts(self) -> tuple[Asking, Follower]:
        follower = Follower(self.record, self.answers, Dependencies(), look_s=0.02)
        policies = shipped()
        asking = Asking(
            self,
            self.ledger,
            self.record,
            self.answers,
            self.cancelling,
            knows_policy=lambda name: policies.find(name) is not None,
            mask=self.mask,
            is_mask_slow=self.is_mask_slow,
            max_waiting=self.max_waiting,
        )
        return asking, follower

    def routes(self, parts: tuple[Asking, Follower] | None = None) -> tuple[ApiRoute, ...]:
        """The API's table."""
        asking, follower = parts or self._parts()
        batches = BatchApi(asking, self.files, self.batches, self.max_tenant_file_bytes)
        chat = Chat(asking, follower, lambda: shipped().names)
        table = api_routes(Requests(asking, follower), chat, FileApi(batches), batches, Experiments(MemoryTrials()))
        return tuple(map(_as_documented, table))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[httpx2.AsyncClient]:
        """A client of the running gateway."""
        asking, follower = parts = self._parts()
        settings = GatewaySettings.model_validate({"postgres_dsn": DSN, "gateway_port": 0, **self.settings})
        access = Access(self.accounts, self.sign_ins, host=self.host)
        door = McpDoor(access, "0")
        self.app = app = make_app(settings, Site(access, Reader(DSN), asking, door.routes), self.routes(parts))
        server = WebServer(app, settings, drain_s=1.0)
        runner = BatchRunner(asking, self.batches, self.batch_open)
        async with door.serving(app), self._running(server, follower, runner) as client:
            yield client

    @asynccontextmanager
    async def _running(
        self, server: WebServer, follower: Follower, runner: BatchRunner
    ) -> AsyncIterator[httpx2.AsyncClient]:
        works = (server.run(), follower.run(), runner.run(look_s=0.02), self.cancelling.run())
        running = [asyncio.create_task(work) for work in works]
        try:
            await until(lambda: server.is_ready, what="a listening gateway")
            self.url = f"http://127.0.0.1:{server.port}"
            async with httpx2.AsyncClient(base_url=self.url, timeout=10) as client:
                yield client
        finally:
            for task in running[1:]:
                task.cancel()
            server.stop()
            await asyncio.wait(running)
            await self.cancelling.close()


def _as_documented(row: ApiRoute) -> ApiRoute:
    """The route, which fails a test whenever it answers with what the OpenAPI document does not know."""

    async def handler(call: Call) -> Response:
        response = await row.handler(call)
        assert response.status_code in (row.status, *row.otherwise, *row.bare), f"{row.path}: {response.status_code}"
        return response

    return replace(row, handler=handler)


def answering(text: str = "36") -> Callable[[ReasoningRequested], End]:
    """Answers every request with this."""
    return lambda request: made.answer(text, request_id=str(request.request_id))


def failing(failure: str, message: str = "no luck") -> Callable[[ReasoningRequested], End]:
    """Fails every request like this."""
    return lambda request: RequestFailed(
        request_id=str(request.request_id), failure=RequestFailure(failure), message=message
    )
