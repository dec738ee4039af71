"""The list of requests, and a request as its story."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conclave.store.listing import FAILED, OPEN, Filter, Key
from conclave.store.trace import Story
from schemas.ids import asked_at_ms, is_request_id
from schemas.values import Outcome
from services.gateway.pages.rendering import HEADERS, problem, render
from services.gateway.pages.stories import page_of
from services.gateway.pages.view import Publish, RequestView

_PAGE_SIZE = 50
_ON_ITS_WAY_S = 60  # so long a request that is not recorded may still be on its way there

Owns = Callable[[str], Awaitable[bool]]


class RequestPages:
    """`/requests`, `/requests/<id>` and what they are made of."""

    def __init__(self, view: RequestView, publish: Publish | None, owns: Owns | None = None) -> None:
        """`owns` says of an id that nothing is recorded of whether it is the reader's to wait for; without it anyone's is."""
        self._view, self._may_publish, self._owns = view, publish is not None, owns
        self.routes: list[BaseRoute] = [
            Route("/requests", self.list),
            Route("/requests/{request_id}.json", self.raw),
            Route("/requests/{request_id}", self.story),
            Route("/requests/{request_id}/body", self.body),
        ]

    async def list(self, request: Request) -> Response:
        """The latest requests, as filtered, a page at a time."""
        query = request.query_params
        wanted, wrong = filter_of(query)
        page = await self._view.requests(wanted, before=_key_of(query), limit=_PAGE_SIZE)
        choices = _with_chosen(await self._view.choices(), wanted)
        older = None
        if page.oldest is not None:
            place = {"before": page.oldest.asked_at.isoformat(), "before_id": page.oldest.request_id}
            older = urlencode({**{name: query[name] for name in _FIELDS if query.get(name)}, **place})
        return render(
            request,
            "requests.html",
            page=page,
            wanted=wanted,
            choices=choices,
            outcomes=OUTCOMES,
            older=older,
            wrong=wrong,
        )

    async def story(self, request: Request) -> Response:
        """A request from its route to its answer."""
        return await self._told(request, "story.html", "waiting.html")

    async def body(self, request: Request) -> Response:
        """The same without the page around it: what an open request's page asks for every second."""
        found = await self._told(request, "story_body.html", "waiting_body.html")
        return render(request, "gone_body.html", status=404, message=_UNKNOWN) if found.status_code == 404 else found

    async def raw(self, request: Request) -> Response:
        """Everything recorded of it."""
        request_id = request.path_params["request_id"]
        found: Mapping[str, Any] = await self._view.raw(request_id) if is_request_id(request_id) else {}
        if not any(found.values()):
            return _unknown(request)
        body = json.dumps(found, default=str, ensure_ascii=False, indent=1)
        return Response(body, media_type="application/json", headers=HEADERS)

    async def _told(self, request: Request, template: str, waiting: str) -> Response:
        request_id = request.path_params["request_id"]
        story = await self._view.story(request_id) if is_request_id(request_id) else None
        if story is not None:
            return render(request, template, **self._page(story))
        if is_request_id(request_id) and await self._is_on_its_way(request_id):
            return render(request, waiting, request_id=request_id)
        return _unknown(request)

    async def _is_on_its_way(self, request_id: str) -> bool:
        is_new = abs(time.time() - asked_at_ms(request_id) / 1000) < _ON_ITS_WAY_S
        return is_new and (self._owns is None or await self._owns(request_id))

    def _page(self, story: Story) -> dict[str, Any]:
        return page_of(story) | {"may_say": self._may_publish}


def _with_chosen(choices: Mapping[str, Sequence[str]], wanted: Filter) -> dict[str, tuple[str, ...]]:
    """What may be chosen, and what was: it may be of a request that is older than those that choices are made of."""
    chosen = {"policy": wanted.policy, "arm": wanted.arm, "tenant": wanted.tenant}
    return {name: tuple(sorted({*choices[name], *filter(None, (each,))})) for name, each in chosen.items()}


OUTCOMES = {
    Outcome.MAJORITY.value: "majority",
    Outcome.TIE.value: "tie",
    FAILED: "failed",
    OPEN: "still open",
}
_FIELDS = ("text", "policy", "arm", "tenant", "outcome", "max_confidence", "max_agreement", "has_feedback")


def filter_of(query: Mapping[str, str]) -> tuple[Filter, str]:
    """What a query asks for, and what of it could not be read."""
    wrong: list[str] = []
    outcome = _word(query, "outcome")
    if outcome not in ("", *OUTCOMES):
        wrong.append(f"an outcome is one of: {', '.join(OUTCOMES.values())}")
        outcome = ""
    wanted = Filter(
        text=_word(query, "text"),
        policy=_word(query, "policy"),
        arm=_word(query, "arm"),
        tenant=_word(query, "tenant"),
        outcome=outcome,
        max_confidence=_share(query, "max_confidence", wrong),
        max_agreement=_share(query, "max_agreement", wrong),
        has_feedback=bool(query.get("has_feedback")),
    )
    if outcome == OPEN and (wanted.max_confidence is not None or wanted.max_agreement is not None):
        wanted = replace(wanted, max_confidence=None, max_agreement=None)
        wrong.append("what is still open has no confidence and no agreement yet: these were left out")
    told = "; ".join(wrong)
    return wanted, told[:1].upper() + told[1:]


def _word(query: Mapping[str, str], name: str) -> str:
    return query.get(name, "")[:200].replace("\0", "")


def _share(query: Mapping[str, str], name: str, wrong: list[str]) -> float | None:
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if 0 <= share <= 1:
        return share
    wrong.append(f"“{name.removeprefix('max_')} up to” must be a number from 0 to 1")
    return None


def _key_of(query: Mapping[str, str]) -> Key | None:
    """From where a list goes on; from its beginning where the query says nothing that can be read."""
    request_id = query.get("before_id", "")
    try:
        before = datetime.fromisoformat(query.get("before", ""))
        is_whole = is_request_id(request_id) and before.tzinfo is not None
        return Key(before.astimezone(UTC), request_id) if is_whole else None
    except (ValueError, OverflowError):  # the latter of a time zone in which the year 1 has not begun
        return None


_UNKNOWN = "Nothing is recorded under this id. Perhaps it is older than the record goes back, or it was never asked."


def _unknown(request: Request) -> Response:
    return problem(request, 404, "No such request", _UNKNOWN)
