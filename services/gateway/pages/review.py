"""Reviewing: one answer at a time, taken from the queue; a verdict is feedback of an expert."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conclave.domain.statistics.agreement import agreement
from conclave.errors import LostDependency
from conclave.store.reviews import Item
from schemas.events import FeedbackGiven
from schemas.experiments import Rater
from schemas.ids import is_request_id
from services.gateway.pages.asking import form_of, leads_to
from services.gateway.pages.rendering import problem, render
from services.gateway.pages.view import Publish

_NUM_SHOWN = 25
_NUM_LATEST = 2_000  # answers that are looked at for them: the page comes at once, also where nothing is open
_NUM_REVIEWERS = 2
_LEASE_S = 1800.0
_AGE = timedelta(days=7)
_MAX_NAME_CHARS = 64


class Desk(Protocol):
    """What these pages work at: conclave.store.reviews.Reviews. Every method raises LostDependency."""

    async def open(self, *, since: datetime, num_reviewers: int, limit: int, num_latest: int) -> list[Item]:
        """What is open of the latest answers, the latest first."""
        ...

    async def claimed(self, reviewer: str) -> Item | None:
        """What a reviewer has in hand."""
        ...

    async def claim(self, reviewer: str, *, since: datetime, num_reviewers: int, lease_s: float) -> Item | None:
        """The same, else the next answer for them."""
        ...

    async def judged(self, reviewer: str, request_id: str) -> None:
        """Notes that a verdict has been published."""
        ...

    async def skipped(self, reviewer: str, request_id: str) -> None:
        """Gives an answer back."""
        ...

    async def judgements(self, since: datetime) -> list[list[bool]]:
        """What experts have said of each answer."""
        ...


class ReviewPages:
    """`/review`, and the forms by which answers are taken, judged and given back. Looking at it takes nothing."""

    def __init__(self, desk: Desk | None, publish: Publish | None) -> None:
        self._desk, self._publish = desk, publish
        self.routes: list[BaseRoute] = [
            Route("/review", self.shown),
            Route("/review/claim", self.claim, methods=["POST"]),
            Route("/review/verdict", self.verdict, methods=["POST"]),
        ]

    async def shown(self, request: Request) -> Response:
        """What the reviewer has in hand, what is open, and how much reviewers agree."""
        reviewer = _name(request.query_params)
        items: Sequence[Item] = ()
        in_hand, agreed = None, None
        if self._desk is not None:
            since = datetime.now(UTC) - _AGE
            in_hand = await self._desk.claimed(reviewer) if reviewer else None
            items = await self._desk.open(
                since=since, num_reviewers=_NUM_REVIEWERS, limit=_NUM_SHOWN, num_latest=_NUM_LATEST
            )
            agreed = agreement(await self._desk.judgements(since))
        values: dict[str, Any] = {
            "items": items,
            "item": in_hand,
            "reviewer": reviewer,
            "agreed": agreed,
            "wanted": _NUM_REVIEWERS,
        }
        is_done = request.query_params.get("left") == "none"
        return render(request, "review.html", may_say=self._publish is not None, is_done=is_done, **values)

    async def claim(self, request: Request) -> Response:
        """Takes the next answer for the reviewer that the form names."""
        form = await form_of(request)
        if isinstance(form, Response):
            return form
        reviewer = _name(form)
        if not reviewer or self._desk is None:
            return problem(request, 422, "Who reviews?", "Say a name: verdicts are kept under it.")
        return await self._next(request, self._desk, reviewer)

    async def verdict(self, request: Request) -> Response:
        """Publishes what the reviewer says, or gives the answer back; then takes the next one."""
        form = await form_of(request)
        if isinstance(form, Response):
            return form
        reviewer, request_id = _name(form), form.get("request_id", "")
        if not reviewer or not is_request_id(request_id) or self._desk is None or self._publish is None:
            return problem(request, 422, "This can't be said", "A verdict names a request and who reviews it.")
        if form.get("reward") == "skip":
            await self._desk.skipped(reviewer, request_id)
            return await self._next(request, self._desk, reviewer)
        given = _given(form, reviewer)
        if given is None:
            return problem(request, 422, "This can't be said", "A verdict says 0 or 1, and perhaps what is right.")
        try:
            await self._publish(given)
        except LostDependency:
            return problem(request, 503, "Not noted", "The log is away. Say it again in a moment.")
        await self._desk.judged(reviewer, request_id)
        return await self._next(request, self._desk, reviewer)

    async def _next(self, request: Request, desk: Desk, reviewer: str) -> Response:
        since = datetime.now(UTC) - _AGE
        item = await desk.claim(reviewer, since=since, num_reviewers=_NUM_REVIEWERS, lease_s=_LEASE_S)
        left = {} if item is not None else {"left": "none"}
        return leads_to(request, f"/review?{urlencode({'reviewer': reviewer, **left})}")


def _name(fields: Mapping[str, str]) -> str:
    """Who reviews; "" for nobody, or a name that no feedback could hold."""
    name = fields.get("reviewer", "").strip()
    return name if len(name) <= _MAX_NAME_CHARS and name.isprintable() else ""


def _given(form: Mapping[str, str], reviewer: str) -> FeedbackGiven | None:
    """A reviewer's verdict; None where the form can't be read."""
    texts = {name: form[name].strip() for name in ("right_answer", "comment") if form.get(name, "").strip()}
    try:
        found = {"reward": {"0": 0.0, "1": 1.0}[form["reward"]], "request_id": form["request_id"], **texts}
        return msgspec.convert({**found, "source": reviewer, "rater": Rater.EXPERT}, FeedbackGiven)
    except (KeyError, ValueError, msgspec.ValidationError):
        return None
