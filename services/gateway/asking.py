"""Puts a client's question to the pipeline, and finds what came of it. All that it remembers is in the log and the record."""

import asyncio
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import msgspec

from conclave.domain.priorities import DEFAULT_PRIORITY, at_most
from conclave.domain.redaction import Mask
from conclave.errors import LostDependency
from conclave.store.cancellations import cancellation_of
from conclave.store.ledger import Entered, Entry, KeyReused, Limits, OverLimit
from schemas.events import Event, FeedbackGiven, ReasoningRequested
from schemas.ids import new_request_id
from schemas.values import MAX_QUESTION_CHARS
from services.gateway import answer_schemas
from services.gateway.access import LOCAL, Caller
from services.gateway.answers import Answers
from services.gateway.bodies import MAX_TAGS, AskBody, FeedbackBody, RequestState
from services.gateway.cancelling import Cancelling
from services.gateway.errors import ApiError, key_reused, not_found
from services.gateway.follower import Record
from services.gateway.masking import numbered
from services.gateway.publishing import Log, NotSent
from services.gateway.results import Result, of_row

T = TypeVar("T")
TENANT_TAG = "tenant"
CONVERSATION_TAG = "conversation"
OVER_LIMIT = "over_limit"
GRACE_S = 30.0  # beyond a request's deadline: the services tell of a missed one a little after it
MAX_DEADLINE_S = 86_400.0
_BUSY_RETRY_S = 5
# Of schemas.values: what stands for a masked text may be longer than it was.
_MAX_LABEL_CHARS, _MAX_SHORT_CHARS = 256, 4096


class Ledger(Protocol):
    """Who asked what: conclave.store.ledger.Ledger. Each raises LostDependency."""

    async def enter(self, entry: Entry, limits: Limits) -> Entered | KeyReused | OverLimit: ...
    async def withdraw(self, request_id: str) -> None: ...
    async def owners(self, request_ids: tuple[str, ...]) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Sent:
    """What a client says besides its question: in its headers, or in how a chat begins."""

    idempotency_key: str | None = None
    traceparent: str | None = None
    conversation: str | None = None  # any text that all turns of it have in common


@dataclass(frozen=True, slots=True)
class Asking:
    """See the module's docstring."""

    log: Log
    ledger: Ledger
    record: Record
    answers: Answers
    cancelling: Cancelling
    knows_policy: Callable[[str], bool]
    mask: Mask = field(default=str)
    is_mask_slow: bool = False  # too slow for the loop that everyone is served by
    max_waiting: int = 1000

    async def ask(
        self,
        caller: Caller,
        body: AskBody,
        sent: Sent,
        *,
        request_id: str | None = None,
        told_by: AskBody | None = None,
    ) -> str:
        """The id under which the question was published: an earlier one where the same idempotency key was sent before.

        `told_by`: what must be the same each time that the key is sent, where that is not the whole body.

        1. It is masked, before it is written down anywhere.
        2. It is entered in the ledger: here its tenant's limits hold.
        3. It is published. Published twice under one id, it is answered once.
        4. Where the log may have it although that failed, it is cancelled, unless its client can come back for it.

        Raises: ApiError, LostDependency.
        """
        if body.policy is not None and not self.knows_policy(body.policy):
            raise not_found(f"there is no policy {body.policy!r}", "model_not_found", "policy")
        new_id = request_id or new_request_id()
        request = await self._masking(lambda: self._request(caller, body, new_id, sent.conversation))  # 1
        entry = Entry(
            str(request.request_id),
            caller.tenant,
            _digest(told_by or body),
            body.deadline_s,
            key_id=caller.key_id,
            idempotency_key=hashed_key(caller, sent.idempotency_key),
            is_kept=caller.is_kept,
        )
        entered = _admitted(await self.ledger.enter(entry, caller.limits))  # 2
        if not entered.is_new:
            if await self.record.request(entered.request_id) is not None:
                return entered.request_id
            request = msgspec.structs.replace(request, request_id=entered.request_id)
        if sent.idempotency_key is not None:
            await self.log.publish(request, traceparent=sent.traceparent)  # 3
            return entered.request_id
        try:
            await self._publish_or_cancel(request, sent.traceparent)  # 3, 4
        except LostDependency:
            # The log may have it all the same: then the entry says that its words are not to be kept.
            if caller.is_kept:
                await self.ledger.withdraw(entered.request_id)
            raise
        return entered.request_id

    async def state(self, caller: Caller, request_id: str) -> RequestState:
        """Where a request is. Raises: ApiError for one that is not the caller's, LostDependency."""
        is_known = await self._is_callers(caller, request_id)
        ends = await self.record.ends([request_id])
        asked = await self.record.request(request_id)
        if not is_known and not ends and asked is None:
            raise _unknown(request_id)
        shown = _shown(asked) if asked else {}
        if request_id in ends:
            result = of_row(ends[request_id])
            return RequestState(id=request_id, status=result.status, result=result, **shown)
        return RequestState(id=request_id, status="running" if asked else "accepted", **shown)

    async def result(self, caller: Caller, request_id: str) -> Result | None:
        """What came of a request; None while it runs. Raises: ApiError for one that is not the caller's, LostDependency."""
        return (await self.state(caller, request_id)).result

    async def cancel(self, caller: Caller, request_id: str) -> RequestState:
        """Has a request end without an answer, unless it has ended: what the pipeline makes of it is heard as ever.

        Raises: ApiError for one that is not the caller's, LostDependency.
        """
        state = await self.state(caller, request_id)
        if state.result is None:
            asked = await self.record.request(request_id)
            deadline_s = MAX_DEADLINE_S if asked is None else asked["deadline_s"]
            await self.log.publish(cancellation_of(request_id, deadline_s))
        return state

    async def cancel_all(self, request_ids: Sequence[str], deadline_s: float, *, is_log_away: bool = False) -> None:
        """The same for requests that nobody waits for; while the log is away, once it is back. Never raises."""
        cancellations = [cancellation_of(request_id, deadline_s) for request_id in request_ids]
        await self.cancelling.publish(cancellations, is_log_away=is_log_away)

    def cancel_later(self, request_ids: Sequence[str], deadline_s: float) -> None:
        """The same at a moment that allows no waiting."""
        self.cancelling.wait(cancellation_of(request_id, deadline_s) for request_id in request_ids)

    async def give_feedback(self, caller: Caller, body: FeedbackBody, sent: Sent) -> str:
        """The id under which it was published: the same however often it is sent under an id or key of the client's own.

        Under a key that came with something else it is feedback of its own: nothing here remembers keys, to refuse it.

        Raises: ApiError for a request that is not the caller's, LostDependency.
        """
        await self.state(caller, body.request_id)
        event = await self._masking(lambda: masked_feedback(body, self._mask(caller)))
        feedback_id = event.feedback_id or _feedback_id(caller, body, sent) or uuid.uuid4().hex
        event = msgspec.structs.replace(event, feedback_id=feedback_id)
        await self.log.publish(event, event_id=feedback_id, traceparent=sent.traceparent)
        return feedback_id

    async def publish_for_page(self, event: Event) -> None:
        """Publishes what a visitor of the pages says, masked like anything else. Raises: LostDependency."""
        match event:
            case ReasoningRequested():
                tags = {**event.tags, TENANT_TAG: LOCAL.tenant}
                asked = event.question
                question = (await self._masking(lambda: self.mask(asked)))[:MAX_QUESTION_CHARS]
                request = msgspec.structs.replace(event, question=question, tags=tags, priority="interactive")
                await self._publish_or_cancel(request)
            case FeedbackGiven():
                given = event
                await self.log.publish(await self._masking(lambda: masked_feedback(given, self.mask)))
            case _:
                await self.log.publish(event)

    def check_room(self) -> None:
        """Raises: ApiError when as many as a gateway can hold wait for answers already."""
        if len(self.answers.awaited) >= self.max_waiting:
            headers = {"Retry-After": str(_BUSY_RETRY_S)}
            raise ApiError(429, "too many wait for answers here; try again", "gateway_busy", headers=headers)

    def _request(self, caller: Caller, body: AskBody, request_id: str, conversation: str | None) -> ReasoningRequested:
        mask = self._mask(caller)
        given = own_tags(body.tags, at="tags")
        names = numbered(given, mask, most=_MAX_LABEL_CHARS)
        tags = {names[name]: mask(value)[:_MAX_LABEL_CHARS] for name, value in given.items()}
        own = {TENANT_TAG: caller.tenant}
        if conversation and caller.is_kept and CONVERSATION_TAG not in tags and len(tags) < MAX_TAGS:
            own[CONVERSATION_TAG] = blake2b(mask(conversation).encode(), digest_size=16).hexdigest()
        schema = body.answer_schema
        if schema is not None:
            schema = answer_schemas.taken_masked(schema, mask, at="answer_schema")
        return ReasoningRequested(
            request_id=request_id,
            question=mask(body.question)[:MAX_QUESTION_CHARS],
            policy=body.policy,
            max_samples=body.max_samples,
            max_tokens=body.max_tokens,
            max_turn_tokens=body.max_turn_tokens,
            quality=body.quality,
            priority=_priority(caller, body),
            answer_schema=schema,
            deadline_s=body.deadline_s,
            tags=tags | own,
        )

    async def _publish_or_cancel(self, request: ReasoningRequested, traceparent: str | None = None) -> None:
        """Publishes what nobody will ask again under its id. Where that may have failed only in part, it ends for nobody."""
        try:
            await self.log.publish(request, traceparent=traceparent)
        except NotSent:
            raise
        except asyncio.CancelledError:  # the gateway stops
            self.cancel_later([str(request.request_id)], request.deadline_s)
            raise
        except Exception:
            await self.cancel_all([str(request.request_id)], request.deadline_s, is_log_away=True)
            raise

    async def _masking(self, work: Callable[[], T]) -> T:
        """What comes of work that masks: in a thread, where that takes long."""
        return await asyncio.to_thread(work) if self.is_mask_slow else work()

    def _mask(self, caller: Caller) -> Mask:
        return self.mask if caller.is_redacted else str

    async def _is_callers(self, caller: Caller, request_id: str) -> bool:
        """True for one that came through a gateway, and is the caller's to see. Raises: ApiError for another tenant's."""
        owner = (await self.ledger.owners((request_id,))).get(request_id)
        if owner == caller.tenant:
            return True
        if not caller.is_admin:
            raise _unknown(request_id)
        return owner is not None


# What feedback says in words, and how long that may be; ids too, so that what names one still does.
_SAID = dict.fromkeys(
    ("right_answer", "comment", "about_answer", "chosen", "rejected"), _MAX_SHORT_CHARS
) | dict.fromkeys(("source", "feedback_id", "supersedes"), _MAX_LABEL_CHARS)


def masked_feedback(given: FeedbackGiven, mask: Mask) -> FeedbackGiven:
    """The event that says so, every word of it masked."""
    said = {name: getattr(given, name) for name in FeedbackGiven.__struct_fields__}
    said |= {name: mask(said[name])[:most] for name, most in _SAID.items() if said[name] is not None}
    reward = said.pop("reward")
    return FeedbackGiven(reward=None if reward is None else float(reward), **said)


def _admitted(entered: Entered | KeyReused | OverLimit) -> Entered:
    """The entry. Raises: ApiError where there is none."""
    match entered:
        case Entered():
            return entered
        case KeyReused():
            raise key_reused()
        case OverLimit():
            headers = {"Retry-After": str(max(1, math.ceil(entered.retry_after_s)))}
            raise ApiError(429, f"this tenant may have {entered.allowed} {entered.what}", OVER_LIMIT, headers=headers)


def own_tags(tags: Mapping[str, str], *, at: str) -> dict[str, str]:
    """A client's tags; `at` says where they were sent. Raises: ApiError where one is the gateway's."""
    if TENANT_TAG in tags:
        raise ApiError(400, f"the tag `{TENANT_TAG}` is the gateway's own", "reserved_tag", at)
    return dict(tags)


def _priority(caller: Caller, body: AskBody) -> str | None:
    """The class that a request is published under: what it asks for, and no more urgent than its tenant's may be.

    None for the default one, which needs no saying.
    """
    priority = at_most(body.priority or DEFAULT_PRIORITY, caller.most_urgent)
    return None if priority == DEFAULT_PRIORITY else priority


def _unknown(request_id: str) -> ApiError:
    return not_found(f"there is no request {request_id} here", "request_not_found", "request_id")


def _shown(asked: Mapping[str, Any]) -> dict[str, Any]:
    tags = {name: value for name, value in (asked["tags"] or {}).items() if name != TENANT_TAG}
    return {"question": asked["question"] or None, "policy": asked["policy"], "tags": tags}


def inner_key(kind: str, *parts: object) -> str:
    """The key of a request that is one of several asked by one call, or by none: no client can write it, for a NUL begins it."""
    return "\0".join(("", kind, *map(str, parts)))


def hashed_key(caller: Caller, idempotency_key: str | None) -> str | None:
    """What is kept of an idempotency key: enough to know it again."""
    if idempotency_key is None:
        return None
    return blake2b(f"{caller.tenant}\0{idempotency_key}".encode(), digest_size=16).hexdigest()


def _feedback_id(caller: Caller, body: FeedbackBody, sent: Sent) -> str | None:
    """What feedback is called that came under a key."""
    if sent.idempotency_key is None:
        return None
    return hashed_key(caller, f"{sent.idempotency_key}\0{_digest(body).hex()}")


def _digest(body: AskBody | FeedbackBody) -> bytes:
    """What tells one request from another. Of the text only this is kept in the ledger."""
    return blake2b(msgspec.json.encode(body, order="sorted"), digest_size=32).digest()
