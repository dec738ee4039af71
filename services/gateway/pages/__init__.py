"""The pages: what was asked and how the votes fell, for people. Read from the record, and nothing else.

What a visitor does here (ask, say what an answer was worth) is an event like anyone's, handed to `publish`.
"""

from collections.abc import Sequence

from starlette.routing import BaseRoute

from conclave.policies import shipped
from conclave.store.figures import RecordFigures
from conclave.store.reader import Reader
from conclave.store.view import RecordView
from services.gateway.pages.asking import AskPages
from services.gateway.pages.compare import ComparePages
from services.gateway.pages.experiments import ExperimentPages, Trials
from services.gateway.pages.figures import FigurePages, Figures, Topics
from services.gateway.pages.files import KeptFiles
from services.gateway.pages.live import LivePages
from services.gateway.pages.requests import RequestPages
from services.gateway.pages.review import Desk, ReviewPages
from services.gateway.pages.view import Policies, Publish, View

__all__ = ["KeptFiles", "routes", "routes_over"]


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
) -> list[BaseRoute]:
    """All pages over the record. Without `publish` they only show; without `topics` they can't say how the log does."""
    view, figures = RecordView(reader), RecordFigures(reader)
    return routes_over(view, figures, publish, topics=topics, policies=policies, trials=trials, desk=desk)


def routes_over(
    view: View,
    figures: Figures,
    publish: Publish | None = None,
    *,
    topics: Topics | None = None,
    policies: Policies = _shipped,
    trials: Trials | None = None,
    desk: Desk | None = None,
) -> list[BaseRoute]:
    """The same over anything that is read as the record is."""
    return [
        *AskPages(view, publish, policies).routes,
        *LivePages(view).routes,
        *RequestPages(view, publish).routes,
        *ComparePages(view).routes,
        *FigurePages(figures, view, topics).routes,
        *ExperimentPages(figures, trials).routes,
        *ReviewPages(desk, publish).routes,
    ]
