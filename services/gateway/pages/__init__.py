"""The pages: what was asked and how the votes fell, for people. Read from the record, and nothing else.

What a visitor does here (ask, say what an answer was worth) is an event like anyone's, handed to `publish`.
"""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conclave.policies import shipped
from conclave.store.figures import RecordFigures
from conclave.store.reader import Reader
from conclave.store.tenant_view import TenantView
from conclave.store.view import RecordView
from services.gateway.pages.asking import AskPages, leads_to
from services.gateway.pages.compare import ComparePages
from services.gateway.pages.dead_letters import DeadLetterPages, Letters
from services.gateway.pages.experiments import ExperimentPages, Trials
from services.gateway.pages.figures import FigurePages, Figures, Topics
from services.gateway.pages.files import KeptFiles
from services.gateway.pages.live import LivePages
from services.gateway.pages.requests import Owns, RequestPages
from services.gateway.pages.review import Desk, ReviewPages
from services.gateway.pages.telling import telling
from services.gateway.pages.view import Policies, Publish, RequestView, View

__all__ = ["KeptFiles", "routes", "routes_over", "tenant_routes", "tenant_routes_over"]


def _shipped() -> Sequence[str]:
    return shipped().names


def routes(
    reader: Reader,
    publish: Publish | None = None,
    *,
    topics: Topics | None = None,
    policies: Policies = _shipped,
    trials: Trials | None = None,
    desk: Desk | None = None,
    letters: Letters | None = None,
) -> list[BaseRoute]:
    """All pages over the record. Without `publish` they only show; without `topics` they can't say how the log does."""
    view, figures = RecordView(reader), RecordFigures(reader)
    return routes_over(
        view, figures, publish, topics=topics, policies=policies, trials=trials, desk=desk, letters=letters
    )


def routes_over(
    view: View,
    figures: Figures,
    publish: Publish | None = None,
    *,
    topics: Topics | None = None,
    policies: Policies = _shipped,
    trials: Trials | None = None,
    desk: Desk | None = None,
    letters: Letters | None = None,
) -> list[BaseRoute]:
    """The same over anything that is read as the record is."""
    return telling(
        [
            *AskPages(view, publish, policies).routes,
            *LivePages(view).routes,
            *RequestPages(view, publish).routes,
            *ComparePages(view).routes,
            *FigurePages(figures, view, topics).routes,
            *DeadLetterPages(letters).routes,
            *ExperimentPages(figures, trials).routes,
            *ReviewPages(desk, publish).routes,
        ]
    )


def tenant_routes(reader: Reader, tenant: str) -> list[BaseRoute]:
    """The pages that a tenant sees: lists, stories, raw records and comparisons of what it asked itself. They only show."""
    view = TenantView(reader, tenant)
    return tenant_routes_over(view, view.owns)


def tenant_routes_over(view: RequestView, owns: Owns) -> list[BaseRoute]:
    """The same over anything that tells of one tenant's requests only."""

    async def first(request: Request) -> Response:
        return leads_to(request, "/requests")

    return telling([Route("/", first), *RequestPages(view, None, owns).routes, *ComparePages(view).routes])
