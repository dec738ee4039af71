"""Dead letters: what no service could handle, why, and another try once the cause is gone."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conclave.domain.printable import readable
from conclave.errors import LostDependency, Rejected
from conclave.runtime.dead_letters import DeadLetter
from conclave.store.letter_replays import Replay
from services.gateway.access import Caller
from services.gateway.pages.asking import form_of, leads_to
from services.gateway.pages.rendering import is_part, problem, render

_NUM_SHOWN = 50
_MAX_LINE_CHARS, _MAX_SHOWN_CHARS = 160, 64_000
# Of what one line is made of, and beyond what is shown of all: a secret that is cut in two is not known for one.
_MAX_MASKED_CHARS = 4_000
_ASK_AGAIN_S, _PATIENCE_S = 5.0, 10.0
_MAX_ID_CHARS = 200
_AWAY = "Kafka is away, or does not let this gateway read dead letters."
_NOT_TAKEN = (
    "Kafka did not take it: it is away, or lets this gateway not write to that topic. An operator may: "
    "conclave dead-letters replay "
)


class Letters(Protocol):
    """What these pages stand on: services.gateway.letters.Letters. Every method but `mask` raises LostDependency."""

    @property
    def mask(self) -> Callable[[str], str]:
        """Hides what looks like a secret."""
        ...

    async def latest(self, limit: int) -> Sequence[DeadLetter]:
        """The latest, oldest first."""
        ...

    async def find(self, letter_id: str) -> DeadLetter | None:
        """One of them. Raises: Rejected for what is no id."""
        ...

    async def replays(self, letter_ids: Sequence[str]) -> Mapping[str, Replay]:
        """Who gave them their latest try."""
        ...

    async def replay(self, letter: DeadLetter, *, token: str, actor: str) -> None:
        """Gives one another try. Raises: Rejected for one that is not whole."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """A dead letter in the list. Its texts are masked and may hold anything else."""

    letter: DeadLetter
    at: datetime
    error: str
    value: str  # its first line
    replay: Replay | None


class DeadLetterPages:
    """`/system/dead-letters`, and the form that gives one another try."""

    def __init__(self, letters: Letters | None) -> None:
        self._letters = letters
        self._asking = asyncio.Lock()
        self._found: tuple[Sequence[DeadLetter], str] = ((), "Nobody here can ask the log.")
        self._found_at = float("-inf")
        self.routes: list[BaseRoute] = [
            Route("/system/dead-letters", self.list),
            Route("/system/dead-letters/replay", self.replay, methods=["POST"]),
            Route("/system/dead-letters/{letter_id:path}", self.one),
        ]

    async def list(self, request: Request) -> Response:
        """The latest of all topics, the newest first: a part of a page, or one of its own."""
        letters, wrong = await self._latest()
        replays = await self._replays(letters)
        lines = await asyncio.to_thread(lambda: [self._line(each, replays.get(each.id)) for each in reversed(letters)])
        template = "letters_body.html" if is_part(request) else "letters.html"
        return render(request, template, lines=lines, wrong=wrong, most=_NUM_SHOWN)

    async def one(self, request: Request) -> Response:
        """All of one: headers, key, value, each masked, and with what no person could read spelled out."""
        letter = await self._named(request, request.path_params["letter_id"])
        if isinstance(letter, Response):
            return letter
        replays = await self._replays([letter])
        told = await asyncio.to_thread(self._told, letter, replays.get(letter.id))
        return render(request, "letter.html", **told)

    async def replay(self, request: Request) -> Response:
        """Publishes the letter that the form names to its source topic again, under the name of who sent the form."""
        form = await form_of(request)
        if isinstance(form, Response):
            return form
        letter = await self._named(request, form.get("letter_id", ""))
        if isinstance(letter, Response) or self._letters is None:
            return letter if isinstance(letter, Response) else _unknown(request)
        try:
            await self._letters.replay(letter, token=uuid.uuid4().hex, actor=actor_of(request))
        except Rejected as error:
            return problem(
                request, 422, "This can't be tried again", f"Expected was {error.expected}; this is {error.got}."
            )
        except LostDependency as error:
            if error.dependency != "kafka":
                raise
            return problem(request, 503, "Not tried again", f"{_NOT_TAKEN}{letter.id}")
        return leads_to(request, f"/system/dead-letters/{quote(letter.id)}")

    async def _named(self, request: Request, letter_id: str) -> DeadLetter | Response:
        if self._letters is None or len(letter_id) > _MAX_ID_CHARS:
            return _unknown(request)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                letter = await self._letters.find(letter_id)
        except Rejected:
            letter = None
        except (LostDependency, TimeoutError):
            return problem(request, 503, "The log is away", _AWAY)
        return letter if letter is not None else _unknown(request)

    async def _latest(self) -> tuple[Sequence[DeadLetter], str]:
        """What the log held within the last seconds, so that many who look cost it no more than one."""
        async with self._asking:
            if self._letters is not None and time.monotonic() - self._found_at > _ASK_AGAIN_S:
                try:
                    async with asyncio.timeout(_PATIENCE_S):
                        self._found = await self._letters.latest(_NUM_SHOWN), ""
                except (LostDependency, TimeoutError):
                    self._found = (), _AWAY
                self._found_at = time.monotonic()
            return self._found

    async def _replays(self, letters: Sequence[DeadLetter]) -> Mapping[str, Replay]:
        return (
            await self._letters.replays([each.id for each in letters]) if self._letters is not None and letters else {}
        )

    def _told(self, letter: DeadLetter, replay: Replay | None) -> dict[str, Any]:
        value = readable(letter.value)
        return {
            "line": self._line(letter, replay),
            "headers": [(name, self._masked(readable(text))) for name, text in letter.headers],
            "key": self._masked(readable(letter.key)),
            "value": self._masked(value[: _MAX_SHOWN_CHARS + _MAX_MASKED_CHARS])[:_MAX_SHOWN_CHARS],
            "num_cut": max(0, len(value) - _MAX_SHOWN_CHARS),
        }

    def _line(self, letter: DeadLetter, replay: Replay | None) -> Line:
        first = next((line for line in readable(letter.value).splitlines() if line.strip()), "")
        return Line(
            letter,
            datetime.fromtimestamp(max(0, letter.recorded_ms) / 1000, UTC),
            self._masked(letter.error)[:_MAX_LINE_CHARS],
            self._masked(first[:_MAX_MASKED_CHARS])[:_MAX_LINE_CHARS],
            replay,
        )

    def _masked(self, text: str) -> str:
        assert self._letters is not None
        return self._letters.mask(text)


def actor_of(request: Request) -> str:
    """Who sends a form, as the guard of the pages knows them."""
    caller = getattr(request.state, "caller", None)
    if not isinstance(caller, Caller):
        return "unknown"
    return caller.tenant if caller.key_id is None else f"key {caller.key_id} of {caller.tenant}"


def _unknown(request: Request) -> Response:
    told = "There is no dead letter of this id, or none any more: the log forgets them with their topic."
    return problem(request, 404, "No such dead letter", told)
