"""Errors of a model server by what to do about them. TABLE says it all: its first row that matches decides.

The words are those of vLLM, SGLang, llama.cpp, TGI, Ollama, OpenAI and of the gateways before them, as public reports have them.
"""

import re
from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum

from conclave.engine.prompt_lengths import is_prompt_too_long


class Seen(StrEnum):
    """Where a call went wrong."""

    NO_CONNECTION = "no_connection"  # refused, reset, timed out, name not known: no answer at all
    STATUS = "status"  # an answer with a status of 300 or more
    IN_STREAM = "in_stream"  # status 200, then an error as an object, a string or an event
    CUT_SHORT = "cut_short"  # a stream that breaks off, falls silent, or ends without saying that it ends
    NO_STREAM = "no_stream"  # status 200 and no JSON in it: a log-in page, a proxy's greeting


@dataclass(frozen=True, slots=True)
class ServerError:
    """What a server, or the way to it, said instead of a path. `pause_s` is how long it asked to be left alone."""

    seen: Seen
    message: str
    status: int = 0  # 0 where none was said
    code: str = ""  # the body's code and type
    param: str = ""
    pause_s: float | None = None

    @property
    def words(self) -> str:
        """All of its text, in one line."""
        return " ".join(f"{self.code} {self.param} {self.message}".split())

    def __str__(self) -> str:
        named = f"{self.status} " if self.status else ""
        return f"{named}{' '.join(self.message.split())[:500]}"


class Remedy(StrEnum):
    """What to do about an error."""

    COME_AGAIN = (
        "come_again"  # the same call again, at its own pace; three in a row without a success: the server is away
    )
    WAIT_UNTIL_BACK = "wait_until_back"  # the server is away for everyone
    SLOW_DOWN = "slow_down"  # everyone pauses as long as told, then fewer calls at once
    MEND_SETTING = "mend_setting"  # nobody calls until an operator has mended a setting or an account
    ADAPT = "adapt"  # leave the refused parameter out, or say it in other words: see conclave.engine.dialect
    PROMPT_TOO_LONG = "prompt_too_long"
    CONTENT_FILTERED = "content_filtered"  # this path's content is at fault
    BAD_REQUEST = "bad_request"  # this call will never be taken, whatever else it is


BASE_URL, API_KEY, MODEL = "CONCLAVE_OPENAI_BASE_URL", "CONCLAVE_OPENAI_API_KEY", "CONCLAVE_MODEL"
ACCOUNT = f"the account behind {API_KEY}"
PROXY = "HTTPS_PROXY or HTTP_PROXY"

_ANY = range(1000)
_CLIENT_ERRORS = range(400, 500)
_SERVER_ERRORS = range(500, 600)
_REFUSALS = frozenset({400, 422, 501})
_EVERYWHERE = frozenset(Seen)
_ANSWERED = frozenset({Seen.STATUS, Seen.IN_STREAM})


def _any(*words: str) -> str:
    return "|".join(words)


_QUOTA = _any(
    "insufficient.quota", "billing.hard.limit", "credit balance is too low", "insufficient (balance|credits|funds)",
)  # fmt: skip
_FILTER = _any(
    "content.?filter", "content.policy", "content management policy", "responsible.?ai", "moderation", r"\bflagged\b",
    "safety (system|policy|reasons)", "data.inspection",
)  # fmt: skip
_NO_MODEL = _any(
    "model.not.(found|exist|supported)", "model_decommissioned", "unknown model", "no such model", "not a valid model",
    "invalid model name",
    r"\bmodels?\b.{0,200}(does not exist|not (be )?found|not available|decommissioned|no access|not have access|not loaded)",
)  # fmt: skip
_NO_KEY = _any(
    "api.?key.{0,40}(invalid|not valid|incorrect|missing|expired|required)",
    "(invalid|incorrect|missing|expired).{0,20}api.?key", "unauthori[sz]ed", "authentication",
)  # fmt: skip
_BUSY = _any(
    "rate.?limit", "too many requests", "overloaded", "over capacity", "no capacity", "server is busy",
    "resource.?exhausted", "queue.{0,20}full",
)  # fmt: skip
_LOADING = _any(
    "loading", "starting", "warming up", "not ready", "no healthy upstream", "upstream connect error",
    "no available server",
)  # fmt: skip
_REFUSED_PARAMETER = _any(
    "unsupported", "n[o']t support", "unrecogni[sz]ed", "unknown (field|param|arg)", "unexpected",
    "extra.?(forbidden|inputs|fields)", "not (permitted|allowed)", "not (yet )?implemented", "only the default",
    "deprecated", "cannot (be|both)", "can.t be", "array too long", "too many stop", "at most",
    "maximum (length|value|of)", "less than or equal", "too large", "valid range", "must alternate", "not available",
    "not enabled", "must be verified", r"> \d+, which is the maximum",
)  # fmt: skip
_REFUSED_ROLE = "system role|roles must alternate"


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of error: where it is seen, with which status, in which words; and what to do."""

    remedy: Remedy
    status: Container[int] = _ANY
    says: str = ""
    seen: frozenset[Seen] = _ANSWERED
    setting: str = ""

    def matches(self, error: ServerError) -> bool:
        """True for an error of this kind."""
        if error.seen not in self.seen or error.status not in self.status:
            return False
        return not self.says or re.search(self.says, error.words, re.IGNORECASE) is not None


_PATH_IS_TOO_LONG = Row(Remedy.PROMPT_TOO_LONG)

TABLE: tuple[Row, ...] = (
    # No answer, or no stream. A page or a proxy's greeting in place of a stream is a server that is not there yet.
    Row(Remedy.WAIT_UNTIL_BACK, seen=frozenset({Seen.NO_CONNECTION})),
    Row(Remedy.COME_AGAIN, seen=frozenset({Seen.CUT_SHORT, Seen.NO_STREAM})),
    # The path is at fault.
    Row(Remedy.CONTENT_FILTERED, {0, 400, 403, 422, 451}, _FILTER),
    # A setting or an account is at fault.
    Row(Remedy.MEND_SETTING, {402}, setting=ACCOUNT),
    Row(Remedy.MEND_SETTING, {0, 400, 403, 429}, _QUOTA, setting=ACCOUNT),
    Row(Remedy.MEND_SETTING, {0, 400, 403, 404, 410, 422}, _NO_MODEL, setting=MODEL),
    Row(Remedy.MEND_SETTING, {401, 403}, setting=API_KEY),
    Row(Remedy.MEND_SETTING, {0, 400}, _NO_KEY, setting=API_KEY),
    Row(Remedy.MEND_SETTING, {407}, setting=PROXY),
    # A parameter is at fault. (A chat template that knows no system role fails inside llama.cpp, with 500.)
    Row(Remedy.ADAPT, _REFUSALS, _REFUSED_PARAMETER, frozenset({Seen.STATUS})),
    Row(Remedy.ADAPT, {500}, _REFUSED_ROLE, frozenset({Seen.STATUS})),
    Row(Remedy.MEND_SETTING, {404, 405, 410, *range(300, 400)}, seen=frozenset({Seen.STATUS}), setting=BASE_URL),
    # It will pass.
    Row(Remedy.SLOW_DOWN, {429, 529}),
    Row(Remedy.SLOW_DOWN, {0, *_SERVER_ERRORS}, _BUSY),
    Row(Remedy.WAIT_UNTIL_BACK, {502, 503}, _LOADING),
    Row(Remedy.COME_AGAIN, {408, 409, 421, 423, 425, *_SERVER_ERRORS}),
    Row(Remedy.COME_AGAIN, seen=frozenset({Seen.IN_STREAM})),  # servers give any error of theirs there, with any status
    # What is left is a request that this server will never take.
    Row(Remedy.PROMPT_TOO_LONG, {413}),
    Row(Remedy.BAD_REQUEST, _CLIENT_ERRORS),
    Row(Remedy.COME_AGAIN, seen=_EVERYWHERE),
)


def row_of(error: ServerError) -> Row:
    """The row of TABLE that says what to do. A prompt that is too long is known by its words, whatever its status."""
    if error.seen in _ANSWERED and is_prompt_too_long(error.words):
        return _PATH_IS_TOO_LONG
    return next(row for row in TABLE if row.matches(error))
