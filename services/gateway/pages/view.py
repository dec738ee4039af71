"""What the pages stand on: a view of the record, and a way to publish."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from conclave.store.listing import Filter, Key
from conclave.store.trace import RequestLine, Story
from conclave.store.view import Page, Pulse
from schemas.events import Event

Publish = Callable[[Event], Awaitable[None]]  # returns once the event is in the log. Raises: LostDependency
Policies = Callable[[], Sequence[str]]  # the names that a request may ask for now


class RequestView(Protocol):
    """What pages of requests read: conclave.store.view.RecordView, or for one tenant conclave.store.tenant_view.TenantView.

    Every method raises LostDependency while the record is away.
    """

    async def requests(self, wanted: Filter, *, before: Key | None = None, limit: int = 50) -> Page:
        """The latest requests that the filter asks for."""
        ...

    async def story(self, request_id: str) -> Story | None:
        """All of a request that a page shows; None when nothing is recorded of it."""
        ...

    async def lines(self, keys: Sequence[Key]) -> tuple[RequestLine, ...]:
        """The lines of these requests, in their order."""
        ...

    async def raw(self, request_id: str) -> Mapping[str, Any]:
        """All that is recorded of a request."""
        ...

    async def choices(self) -> Mapping[str, tuple[str, ...]]:
        """What lists may be filtered by."""
        ...


class View(RequestView, Protocol):
    """What all pages read: conclave.store.view.RecordView."""

    async def pulse(self) -> Pulse:
        """What goes on now."""
        ...
