"""`/v1/requests` and `/v1/feedback`: Conclave's own API."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass

from starlette.responses import Response

from services.gateway import streams
from services.gateway.asking import Asking
from services.gateway.bodies import AskBody, FeedbackBody, FeedbackState, Progress, RequestState, RequestTrace
from services.gateway.calls import Call, answered
from services.gateway.errors import ApiError
from services.gateway.follower import Follower
from services.gateway.results import Result

MAX_WAIT_S = 300.0
_END = "end"  # the id of a stream's last event


@dataclass(frozen=True, slots=True)
class Requests:
    """The handlers."""

    asking: Asking
    follower: Follower

    async def ask(self, call: Call) -> Response:
        """Takes a question: 202 with its id, as soon as it is in the log. Of who has left by then, it is cancelled.

        Who has sent an idempotency key may come back for it; nobody else ever knows its id.
        """
        body: AskBody = call.body
        request_id = await self.asking.ask(call.caller, body, call.sent)
        if call.sent.idempotency_key is None and await call.request.is_disconnected():
            await self.asking.cancel_all([request_id], body.deadline_s)
        state = RequestState(id=request_id, status="accepted", policy=body.policy)
        return answered(state, 202, Location=f"/v1/requests/{request_id}", X_Request_Id=request_id)

    async def state(self, call: Call) -> Response:
        """Where a request is; with `wait_s`, waits so long for its end."""
        wait_s = call.number("wait_s", default=0.0, low=0.0, high=MAX_WAIT_S)
        state = await self.asking.state(call.caller, call.request_id)
        if state.result is None and wait_s > 0:
            self.asking.check_room()
            with self.asking.answers.expecting(call.request_id) as end:
                # Looked up again: the end may have come between the first look and this.
                state = await self.asking.state(call.caller, call.request_id)
                if state.result is None and await streams.are_done([end], request=call.request, timeout_s=wait_s):
                    await call.check()  # a key may have been revoked since
                    result = end.result()
                    state = RequestState(
                        id=state.id,
                        status=result.status,
                        question=state.question,
                        policy=state.policy,
                        tags=state.tags,
                        result=result,
                    )
        return answered(state, X_Request_Id=call.request_id)

    async def result(self, call: Call) -> Response:
        """What came of a request: 200 once it has ended, whether or not with an answer; 409 before."""
        result = await self.asking.result(call.caller, call.request_id)
        if result is None:
            raise ApiError(409, "this request still runs", "still_running", headers={"Retry-After": "1"})
        return answered(result, X_Request_Id=call.request_id)

    async def cancel(self, call: Call) -> Response:
        """Has a request end: 202, and its end says `cancelled`; 200 for one that has ended already, as it ended."""
        state = await self.asking.cancel(call.caller, call.request_id)
        return answered(state, 202 if state.result is None else 200, X_Request_Id=call.request_id)

    async def trace(self, call: Call) -> Response:
        """Where a request is, and all that has happened to it."""
        request_id = call.request_id
        state = await self.asking.state(call.caller, request_id)
        happenings = (await self.asking.record.of([request_id])).get(request_id, [])
        happened = tuple(Progress(kind=each.kind, data=each.data) for each in happenings)
        return answered(RequestTrace(request=state, happened=happened), X_Request_Id=request_id)

    async def events(self, call: Call) -> Response:
        """All that happened and happens to a request, as server-sent events, until its end."""
        request_id = call.request_id
        await self.asking.state(call.caller, request_id)
        if call.request.headers.get("last-event-id") == _END:
            return Response(status_code=204)  # a browser comes back after every end of a stream, until it is told this
        events = streams.while_let_in(self._events(request_id), call.check)
        return streams.Streamed(events, X_Request_Id=request_id)

    async def _events(self, request_id: str) -> AsyncGenerator[bytes, None]:
        with self.follower.watching(request_id) as watch:
            while True:
                happening = None
                with suppress(TimeoutError):
                    async with asyncio.timeout(streams.KEEP_ALIVE_S):
                        happening = await watch.next()
                if happening is None:
                    yield streams.KEEP_ALIVE
                elif isinstance(happening, Result):
                    yield streams.event(happening, kind=happening.status, name=_END)
                    return
                else:
                    told = Progress(kind=happening.kind, data=happening.data)
                    yield streams.event(told.data, kind=told.kind, name=happening.name)

    async def feedback(self, call: Call) -> Response:
        """Takes feedback: 202 as soon as it is in the log."""
        body: FeedbackBody = call.body
        feedback_id = await self.asking.give_feedback(call.caller, body, call.sent)
        return answered(FeedbackState(id=feedback_id, request_id=body.request_id), 202)
