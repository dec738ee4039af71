"""Any OpenAI-compatible server, by chat completions; `vllm serve` is one.

A decode goes on until there is a path, or an error that no patience mends: what will pass is waited out (see
conclave.engine.server_errors for which is which, and conclave.engine.breaker for how), so its caller bounds it in time.

Of the HTTP library beneath the `openai` client nothing is used: the client's 2nd and 3rd major versions have different ones.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any

import structlog
from msgspec.structs import replace
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    AuthenticationError,
    InternalServerError,
    PermissionDeniedError,
    RateLimitError,
    Timeout,
)

from conclave.engine import continuation, metrics
from conclave.engine.breaker import Breaker, Call
from conclave.engine.chat_path import Attempt, decoded_of, is_full
from conclave.engine.chat_reading import Reading, bounded
from conclave.engine.chat_stream import Chat, StreamFailed, error_in
from conclave.engine.dialect import Dialect, learn
from conclave.engine.pace import Pace
from conclave.engine.prompt_lengths import lengths
from conclave.engine.protocol import (
    ContentFiltered,
    Decoded,
    DecodeRequest,
    EngineLoad,
    PromptTooLong,
    RequestRefused,
)
from conclave.engine.server_errors import BASE_URL, Remedy, Seen, ServerError, row_of
from conclave.engine.told_pauses import spent_limit_s, told_pause_s
from conclave.engine.trouble import Trouble, TroubleListener, ignore
from conclave.prompts import Message

_CONNECT_S = 10.0
_START_S = 20.0  # for the one call that tries server, key and model at start
_LONGEST_OWN_PAUSE_S = 30.0
_MAX_SPENT_S = 60.0  # a rate limit that is spent is waited for so long without being refused first

log = structlog.get_logger(__name__)


class OpenAIEngine:
    """Streams each completion, so that a cancelled one is aborted on the server and the first token's time is known.

    A `client` that is given lends its connections, and is closed by whoever made it.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api_key: str = "",
        max_running: int = 64,
        server: str = "",
        pace: Pace | None = None,
        client: AsyncOpenAI | None = None,
    ) -> None:
        self._model, self._max_running, self._base_url = model, max_running, base_url
        self._pace = pace or Pace()
        key = api_key or "none"
        self._is_lent = client is not None
        self._client = (client or AsyncOpenAI(base_url=base_url, api_key=key)).with_options(
            base_url=base_url,
            api_key=key,
            max_retries=0,
            timeout=Timeout(self._pace.silence_s, connect=_CONNECT_S),
        )
        self._breaker = Breaker(max_running=max_running, pace=self._pace, try_once=self._try_once)
        self._dialect = Dialect()
        self._server: str | None = server or None  # its kind, asked for when a path is first gone on from
        self._cuts = True  # until it has been seen that what comes of it is not to be gone on from
        self._rng = random.Random()

    @property
    def name(self) -> str:
        """Always `openai`."""
        return "openai"

    @property
    def model(self) -> str:
        """The model's name on the server."""
        return self._model

    @property
    def max_running(self) -> int:
        """As set: the server's own limit is not known."""
        return self._max_running

    async def start(self, hear: TroubleListener = ignore) -> None:
        """Tries server, key and model once, with a path of one token; what is wrong is told to `hear`, and waited for."""
        self._breaker.listen(hear)
        try:
            async with asyncio.timeout(_START_S):
                await self._try_once(Call(asyncio.get_running_loop().time(), is_trial=True))
        except TimeoutError:
            log.warning("model_server_slow", why=f"no answer to a path of one token within {_START_S:.0f} s")

    async def stop(self) -> None:
        """Closes the connections."""
        await self._breaker.stop()
        if not self._is_lent:
            await self._client.close()

    def load(self) -> EngineLoad:
        """What this client has under way."""
        return EngineLoad(self._breaker.num_running, self._breaker.num_waiting, 0.0)

    def trouble(self) -> Trouble | None:
        """What keeps it from decoding."""
        return self._breaker.trouble()

    async def decode(self, request: DecodeRequest) -> Decoded:
        """One path, however long it takes. Raises: PromptTooLong, ContentFiltered, RequestRefused, CannotGoOn.

        It is cut only where the server is known to go on, and says of what there is how many tokens it has and no thoughts apart.
        """
        started = time.perf_counter()
        num_failures = 0
        request = request.in_words()
        if (continuation.is_gone_on(request) or request.chunk_tokens) and self._server is None:
            await self._look_at_server()
        asked = self._in_a_chunk(request)
        while True:
            async with self._breaker.call() as call:
                dialect = self._dialect
                attempt = await self._attempt(dialect, asked, call, started)
                if attempt.error is None:
                    self._breaker.answered(call)
                    metrics.CALLS.labels("answered").inc()
                    decoded = decoded_of(attempt, started)
                    if not is_full(decoded, asked, request):
                        return decoded
                    if decoded.tokens_out is not None and not decoded.reasoning:
                        return replace(decoded, is_cut=True)
                    self._cut_no_more()
                    asked = request
                    continue
                remedy = self._react(attempt, dialect, asked, call)
            if remedy is Remedy.COME_AGAIN:
                num_failures += 1
                await asyncio.sleep(self._own_pause_s(num_failures))

    @property
    def _may_cut(self) -> bool:
        return self._cuts and self._server in continuation.CONTINUATIONS

    def _in_a_chunk(self, request: DecodeRequest) -> DecodeRequest:
        """The same up to the end of its chunk, where there is one and the server goes on from there."""
        most = request.chunk_tokens
        return replace(request, max_tokens=most) if self._may_cut and 0 < most < request.max_tokens else request

    def _cut_no_more(self) -> None:
        log.warning(
            "model_server_not_cut",
            why="of what was said in a chunk it tells thoughts apart, or does not count the tokens",
        )
        self._cuts = False

    async def _look_at_server(self) -> None:
        """Finds out what kind of server it is, by the models that it lists, once it answers."""
        num_failures = 0
        while True:
            try:
                models = await self._client.models.list()
                self._server = continuation.server_among({model.owned_by for model in models.data})
                return
            except (APIConnectionError, InternalServerError, RateLimitError):
                num_failures += 1
                await asyncio.sleep(self._own_pause_s(num_failures))
            except Exception as error:  # noqa: BLE001  whatever else it says to this is no list of models
                log.warning("model_server_kind_unknown", error=repr(error)[:500])
                if not isinstance(error, AuthenticationError | PermissionDeniedError):
                    self._server = ""
                return

    # -- what to do about an error ------------------------------------------------------------------------------------

    def _react(self, attempt: Attempt, dialect: Dialect, request: DecodeRequest, call: Call) -> Remedy:
        """Tells the breaker, learns, or raises; returns what is left to do for the caller."""
        error = attempt.error
        assert error is not None
        row = row_of(error)
        remedy = row.remedy
        if remedy is Remedy.ADAPT and not self._learn(dialect, error):
            remedy = Remedy.BAD_REQUEST
        if remedy is Remedy.COME_AGAIN and error.pause_s is not None:
            remedy = Remedy.SLOW_DOWN
        metrics.CALLS.labels(remedy.value).inc()
        log.debug("model_call_failed", sample=request.sample_id, remedy=remedy.value, error=str(error))
        match remedy:
            case Remedy.COME_AGAIN:
                self._breaker.failed(call, str(error))
            case Remedy.SLOW_DOWN:
                self._breaker.slow_down(call, str(error), error.pause_s)
            case Remedy.WAIT_UNTIL_BACK:
                self._breaker.is_away(call, self._unreachable(error), error.pause_s)
            case Remedy.MEND_SETTING:
                self._breaker.bar(call, str(error), row.setting)
            case Remedy.ADAPT:
                self._breaker.answered(call)
            case Remedy.PROMPT_TOO_LONG:
                self._breaker.answered(call)
                found = lengths(error.words)
                raise PromptTooLong(found.prompt, found.limit, found.answer, said=str(error))
            case Remedy.CONTENT_FILTERED:
                self._breaker.answered(call)
                raise ContentFiltered(str(error))
            case Remedy.BAD_REQUEST:
                self._breaker.answered(call)
                raise RequestRefused(str(error))
        return remedy

    def _unreachable(self, error: ServerError) -> str:
        return f"{self._base_url} ({BASE_URL}): {error}" if error.seen is Seen.NO_CONNECTION else str(error)

    def _learn(self, used: Dialect, error: ServerError) -> bool:
        """True when the call may be made again in another way. Calls that ran at the same time teach the same thing."""
        if learn(used, error) is None:
            return False
        learned = learn(self._dialect, error) if self._dialect == used else None
        if learned is not None:
            self._dialect = learned
            log.warning("model_server_dialect", refused=str(error), differences=learned.differences())
        return self._dialect != used

    def _own_pause_s(self, num_failures: int) -> float:
        longest = min(_LONGEST_OWN_PAUSE_S, self._pace.shortest_pause_s * 2.0 ** min(num_failures, 30))
        return longest * self._rng.uniform(0.5, 1.0)

    async def _try_once(self, call: Call) -> None:
        """One path of one token, to see whether server, key and model do."""
        request = DecodeRequest("trial", (Message("user", "Hi"),), max_tokens=1)
        for _ in range(len(Dialect.__slots__) + 2):  # a dialect is learnt word by word
            dialect = self._dialect
            attempt = await self._attempt(dialect, request, call, time.perf_counter())
            if attempt.error is None:
                self._breaker.answered(call)
                return
            try:
                remedy = self._react(attempt, dialect, request, call)
            except (PromptTooLong, ContentFiltered, RequestRefused):
                return  # it is there, and would take another path
            if remedy is not Remedy.ADAPT:
                return

    # -- one call -----------------------------------------------------------------------------------------------------

    async def _attempt(self, dialect: Dialect, request: DecodeRequest, call: Call, started: float) -> Attempt:
        """One call, read to its end or to an error."""
        queued_ms = (time.perf_counter() - started) * 1000
        arguments = dialect.arguments(self._model, request) | continuation.words(self._server or "", request)
        cut = request.cut if self._may_cut else None
        reading = Reading(Chat(dialect.untold_stops(request), request.watch, cut), started)
        error: ServerError | None = None
        try:
            await self._read(arguments, reading, call)
        except StreamFailed as failed:
            error = failed.error
        except APIStatusError as refused:
            error = _status_error(refused)
        except APITimeoutError:
            error = ServerError(Seen.CUT_SHORT, f"no answer within {self._pace.silence_s:g} s")
        except APIConnectionError as lost:
            error = ServerError(Seen.NO_CONNECTION, _chain(lost))
        except Exception as broke:  # noqa: BLE001  the HTTP library's own errors pass through while a stream is read
            if not reading.chat.is_whole:
                error = ServerError(Seen.CUT_SHORT, f"the stream broke off: {_chain(broke)}")
        if error is None and not reading.chat.is_whole:
            error = reading.unfinished()
        return Attempt(reading.chat, queued_ms, reading.first_token_ms, error)

    async def _read(self, arguments: dict[str, Any], reading: Reading, call: Call) -> None:
        completions = self._client.chat.completions.with_streaming_response
        async with completions.create(**arguments) as response:
            self._obey_limits(response.headers)
            kind = response.headers.get("content-type", "").lower()
            if "json" in kind or "html" in kind:
                reading.body(await bounded(response.iter_bytes()), kind)
            else:
                async for data in response.iter_bytes():
                    reading.feed(data)
                    if reading.chat.is_alive and not call.is_taken:
                        self._breaker.took(call)
                    if reading.is_over:
                        break
                else:
                    reading.end()
            self._breaker.took(call)

    def _obey_limits(self, headers: Mapping[str, str]) -> None:
        """Pauses before the server has to refuse, where it says that nothing remains of a rate limit."""
        spent_s = spent_limit_s(headers, now_s=time.time())
        if spent_s:
            self._breaker.rest(min(spent_s, _MAX_SPENT_S), "its rate limit is spent")


def _status_error(error: APIStatusError) -> ServerError:
    """The error in an answer's status, body and headers."""
    said = error_in(error.body, is_error=True, status=error.status_code) if error.body else None
    pause_s = told_pause_s(error.response.headers, now_s=time.time())
    if said is None:
        return ServerError(Seen.STATUS, error.message[:4000], error.status_code, pause_s=pause_s)
    return ServerError(Seen.STATUS, said.message, error.status_code, said.code, said.param, pause_s)


def _chain(error: BaseException) -> str:
    """An error and what caused it, in one line: the client's own says only that there was no connection."""
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(lines) < 4:
        line = str(cause) or type(cause).__name__
        if line not in lines:
            lines.append(line)
        cause = cause.__cause__ or cause.__context__
    return ": ".join(lines)[:500]
