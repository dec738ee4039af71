"""Requests as they come: one look at the record a second, shared by all who watch."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from conclave.errors import LostDependency
from conclave.store.listing import Filter
from services.gateway.pages.rendering import HEADERS, fragment, render
from services.gateway.pages.view import View

_EVERY_S = 1.0
_AGE_S = 15.0  # so often it is sent although nothing happened: how long ago things were grows old
_NUM_LINES = 40
_MAX_WATCHERS = 256
_MAX_STREAM_S = 300.0  # then a browser connects again by itself, perhaps to another gateway


class LivePages:
    """`/live`, and the stream that keeps it so."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._looking = asyncio.Lock()
        self._seen: dict[str, Any] = {}
        self._seen_at = float("-inf")
        self._num_watchers = 0
        self.routes: list[BaseRoute] = [Route("/live", self.page), Route("/live/events", self.events)]

    async def page(self, request: Request) -> Response:
        """The latest requests, kept up to date."""
        return render(request, "live.html", **await self._look())

    async def events(self, request: Request) -> Response:
        """The page's content as server-sent events, one whenever it has changed."""
        if self._num_watchers >= _MAX_WATCHERS:
            return PlainTextResponse("too many watch; try again", 429, {"Retry-After": "10"})
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        if request.method == "HEAD":  # its connection would be busy with the events
            return Response(headers=headers, media_type="text/event-stream")
        return StreamingResponse(self._stream(request), media_type="text/event-stream", headers=headers)

    async def _stream(self, request: Request) -> AsyncIterator[str]:
        self._num_watchers += 1
        shown: dict[str, Any] = {}
        shown_at, until = float("-inf"), time.monotonic() + _MAX_STREAM_S
        try:
            while time.monotonic() < until:
                try:
                    seen = await self._look()
                except LostDependency:
                    seen = shown
                if seen and (seen != shown or time.monotonic() - shown_at > _AGE_S):
                    shown, shown_at = seen, time.monotonic()
                    yield _event(fragment(request, "live_body.html", **seen))
                else:
                    yield ": \n\n"  # a comment shows that the connection lives, and finds out when it does not
                await asyncio.sleep(_EVERY_S)
        finally:
            self._num_watchers -= 1

    async def _look(self) -> dict[str, Any]:
        """What the record holds now, or held less than a second ago."""
        async with self._looking:
            if time.monotonic() - self._seen_at >= _EVERY_S * 0.9:
                page = await self._view.requests(Filter(), limit=_NUM_LINES)
                pulse = await self._view.pulse()
                self._seen = {
                    "lines": page.lines, "num_open": pulse.num_open, "per_minute": pulse.num_answered,
                    "median_ms": pulse.median_ms, "mean_paths": pulse.mean_paths,
                }  # fmt: skip
                self._seen_at = time.monotonic()
            return self._seen


def _event(html: str) -> str:
    return "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
