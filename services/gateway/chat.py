"""`/v1/chat/completions` and `/v1/models`: OpenAI's API over votes. A model is a policy, a choice is a vote."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial

import msgspec
from starlette.responses import Response

from conclave.errors import LostDependency
from schemas.ids import asked_at_ms, new_request_id
from schemas.values import Outcome
from services.gateway import answer_schemas, streams
from services.gateway.asking import GRACE_S, Asking, inner_key, own_tags
from services.gateway.bodies import (
    AskBody,
    ChatBody,
    ChatCompletion,
    ChatExtension,
    Choice,
    ChoiceMessage,
    Model,
    Models,
    Priority,
    Usage,
)
from services.gateway.calls import Call, answered
from services.gateway.chat_stream import Asked, AskedChoice, chunks
from services.gateway.conversations import beginning_of, question_of
from services.gateway.errors import ApiError, not_found
from services.gateway.follower import Follower
from services.gateway.results import Result

DEFAULT_MODEL = "conclave"  # whatever policy the service chooses
_KNOWN = frozenset(ChatBody.__struct_fields__)
_PRIORITIES: dict[str, Priority] = {"priority": "interactive", "flex": "batch"}  # by OpenAI's service tiers
_FIELDS = {"policy": "model", "question": "messages", "max_turn_tokens": "max_completion_tokens"}
_NO_RETRY = {"x-should-retry": "false"}  # OpenAI's clients would ask the same again, as another request


@dataclass(frozen=True, slots=True)
class Chat:
    """The handlers."""

    asking: Asking
    follower: Follower
    policies: Callable[[], Sequence[str]]

    async def models(self, call: Call) -> Response:
        """Every policy, as a model."""
        return answered(Models(data=tuple(Model(id=name) for name in (DEFAULT_MODEL, *self.policies()))))

    async def model(self, call: Call) -> Response:
        """One of them."""
        name = call.request.path_params["model"]
        if not self._offers(name):
            raise not_found(f"there is no model {name[:80]!r}", "model_not_found", "model")
        return answered(Model(id=name))

    def _offers(self, name: str) -> bool:
        return name == DEFAULT_MODEL or self.asking.knows_policy(name)

    async def complete(self, call: Call) -> Response:
        """Asks, waits, and answers: at once as a whole, or as a stream that tells of the progress."""
        self.asking.check_room()
        with ExitStack() as expected:
            asked = await self._ask(call, expected)
            if call.body.stream:
                told = chunks(asked, self.follower, partial(_completion, asked), options=call.body.stream_options)
                stream = streams.while_let_in(told, call.check, streams.failed)
                return streams.Streamed(
                    stream,
                    expected.pop_all(),
                    when_left=partial(self._left, call, asked.choices),
                    when_stopped=partial(self._stopped, call, asked.choices),
                    X_Request_Id=asked.request_ids[0],
                )
            try:
                are_done = await streams.are_done(asked.ends, request=call.request, timeout_s=asked.timeout_s)
            except asyncio.CancelledError:
                self._stopped(call, asked.choices)
                raise
            if not are_done:
                await self._left(call, asked.choices)
                raise _still_running(asked)
            with suppress(LostDependency):  # who was let in stays so
                await call.check()
            completion = _completion(asked)
        return answered(completion, X_Request_Id=asked.request_ids[0])

    async def _left(self, call: Call, choices: Sequence[AskedChoice], *, is_log_away: bool = False) -> None:
        """Cancels what still runs when its client has left. Who has sent an idempotency key may come back for it."""
        if call.sent.idempotency_key is None:
            await self.asking.cancel_all(_open_of(choices), call.body.conclave.deadline_s, is_log_away=is_log_away)

    def _stopped(self, call: Call, choices: Sequence[AskedChoice]) -> None:
        """The same when the gateway stops: its client hears no answer, and knows of no request to come back for."""
        if call.sent.idempotency_key is None:
            self.asking.cancel_later(_open_of(choices), call.body.conclave.deadline_s)

    async def _ask(self, call: Call, expected: ExitStack) -> Asked:
        """Asks all choices, or, where one is refused or can't be published, leaves none behind."""
        chat: ChatBody = call.body
        if not self._offers(chat.model):
            raise not_found(f"there is no model {chat.model!r}", "model_not_found", "model")
        question = question_of_chat(chat, deadline_s=chat.conclave.deadline_s)
        choices: list[AskedChoice] = []
        try:
            for index in range(chat.n or 1):
                choices.append(await self._ask_one(call, question, index, expected))
        except asyncio.CancelledError:
            self._stopped(call, choices)
            raise
        except Exception as error:  # the client hears of no request, and asks all choices again
            is_log_away = isinstance(error, LostDependency) and error.dependency == "kafka"
            await self._left(call, choices, is_log_away=is_log_away)
            raise
        return Asked(
            tuple(choices),
            chat.model,
            _ignored(await call.request.body()),
            chat.conclave.deadline_s + GRACE_S,
            int(time.time()),
            question.answer_schema,
        )

    async def _ask_one(self, call: Call, question: AskBody, index: int, expected: ExitStack) -> AskedChoice:
        """Asks a choice, unless it was asked before. Who waits is noted before it is published: no end is missed."""
        chat: ChatBody = call.body
        new = str(new_request_id())
        sent = replace(call.sent, conversation=chat.prompt_cache_key or beginning_of(chat.messages))
        if sent.idempotency_key is not None:
            sent = replace(sent, idempotency_key=inner_key("choice", sent.idempotency_key, index))
        end = expected.enter_context(self.asking.answers.expecting(new))
        request_id = await self.asking.ask(call.caller, question, sent, request_id=new)
        if request_id != new:  # asked before, under the same idempotency key
            end = expected.enter_context(self.asking.answers.expecting(request_id))
            known = await self.asking.result(call.caller, request_id)
            if known is not None:
                self.asking.answers.tell(known)
        return AskedChoice(request_id, end)


def _open_of(choices: Sequence[AskedChoice]) -> list[str]:
    """The requests that have not ended."""
    return [each.request_id for each in choices if not each.end.done()]


def question_of_chat(chat: ChatBody, *, deadline_s: float) -> AskBody:
    """The question that a chat asks. Raises: ApiError."""
    return AskBody(
        question=question_of(chat.messages),
        policy=None if chat.model == DEFAULT_MODEL else chat.model,
        max_samples=chat.conclave.max_samples,
        max_tokens=chat.conclave.max_tokens,
        max_turn_tokens=chat.max_completion_tokens or chat.max_tokens,
        answer_schema=answer_schemas.of_format(chat.response_format),
        quality=chat.conclave.quality,
        priority=chat.conclave.priority or _PRIORITIES.get(chat.service_tier or "auto"),
        deadline_s=deadline_s,
        tags=own_tags(chat.metadata or {}, at="metadata"),
    )


def _completion(asked: Asked) -> ChatCompletion:
    """The completion. Raises: ApiError when a choice came to no answer, or has not ended."""
    if not all(end.done() for end in asked.ends):
        raise _still_running(asked)
    results = [end.result() for end in asked.ends]
    failed = next((result for result in results if result.answer is None), None)
    if failed is not None:
        raise failure_of(failed)
    misfit = next((each for each in results if not answer_schemas.fits(str(each.answer), asked.answer_schema)), None)
    if misfit is not None:  # services of before structured answers, or an answer too long for an event
        raise _unanswered(misfit, "the answer does not fit the schema", "no_answer")
    return completion_of(results, model=asked.model, ignored=asked.ignored, created=asked.created)


def completion_of(
    results: Sequence[Result], *, model: str, ignored: tuple[str, ...] = (), created: int = 0
) -> ChatCompletion:
    """The completion of answers, a choice each."""
    tokens_in, tokens_out = sum(each.tokens_in for each in results), sum(each.tokens_out for each in results)
    return ChatCompletion(
        id=f"chatcmpl-{results[0].request_id}",
        created=created or asked_at_ms(results[0].request_id) // 1000,
        model=model,
        choices=tuple(
            Choice(index=index, message=ChoiceMessage(content=str(each.answer))) for index, each in enumerate(results)
        ),
        usage=Usage(prompt_tokens=tokens_in, completion_tokens=tokens_out, total_tokens=tokens_in + tokens_out),
        conclave=ChatExtension(results=tuple(results), ignored=ignored),
    )


def failure_of(result: Result) -> ApiError:
    """How a request without an answer is told."""
    message = f"request {result.request_id}: {result.message or 'no answer'}"
    headers = {**_NO_RETRY, "X-Request-Id": result.request_id}
    if result.failure is None:
        told = f"request {result.request_id} was answered, and its words were not kept"
        return ApiError(410, told, "content_not_kept", headers=headers)
    contested = [each.name for each in result.fields if each.outcome is not Outcome.MAJORITY]
    match result.failure:
        case "invalid":
            return ApiError(400, message, "invalid_request", _at_fault(result.message or ""), headers)
        case "cancelled":
            return ApiError(409, message, "cancelled", headers=headers)
        case "deadline":
            return ApiError(504, message, "deadline_exceeded", headers=headers)
        case _ if contested:
            return _unanswered(result, message, "no_consensus", contested[0])
        case _:
            return _unanswered(result, message, "no_answer")


def _unanswered(result: Result, message: str, code: str, param: str | None = None) -> ApiError:
    """A vote without an answer that its client could have, and what it came to."""
    headers = {**_NO_RETRY, "X-Request-Id": result.request_id}
    return ApiError(422, message, code, param, headers, ChatExtension(results=(result,)))


def _at_fault(message: str) -> str | None:
    """The field of a chat that the pipeline's refusal names, if any: `$.policy: expected …`."""
    name, has_colon, _ = message.partition(":")
    field = name.removeprefix("$.")
    return (_FIELDS.get(field, field) if has_colon and field != name else None) or None


def _still_running(asked: Asked) -> ApiError:
    at = f"/v1/requests/{asked.request_ids[0]}"
    headers = {**_NO_RETRY, "X-Request-Id": asked.request_ids[0]}
    return ApiError(504, f"no end was heard in time; it will be at {at}", "still_running", headers=headers)


def _ignored(body: bytes) -> tuple[str, ...]:
    """The fields of a request that have no effect."""
    return tuple(sorted(name for name in msgspec.json.decode(body, type=dict[str, msgspec.Raw]) if name not in _KNOWN))[
        :64
    ]
