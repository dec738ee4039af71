"""The pages over a record and a log in memory, and what makes markup sound."""

import re
from html.parser import HTMLParser

from starlette.applications import Starlette
from starlette.testclient import TestClient

from conclave.domain.recorded import RecordedEvent
from conclave.errors import LostDependency
from conclave.runtime.client import TopicState
from conclave.testing import events as made
from schemas import flow
from schemas.events import Event
from services.gateway.pages import routes_over
from tests.memory_view import MemoryDesk, MemoryFigures, MemoryTrials, MemoryView

HOSTILE = """<script>alert(1)</script><img src=x onerror="alert(1)">'"&amp;</pre></textarea></title>{{7*7}}\u202e"""
HERE = {"sec-fetch-site": "same-origin"}


class Log:
    """Takes what is published."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.is_away = False

    async def publish(self, event: Event) -> None:
        if self.is_away:
            raise LostDependency("kafka", "gone")
        self.events.append(event)


async def topics() -> list[TopicState]:
    return [TopicState("reasoning.paths", 4, 1200, {"voter": 3}), TopicState("reasoning.paths.dead-letters", 4, 2, {})]


def client(view: MemoryView, log: Log | None, desk: MemoryDesk | None = None) -> TestClient:
    return TestClient(
        Starlette(
            routes=routes_over(
                view,
                MemoryFigures(view),
                log.publish if log else None,
                topics=topics,
                trials=MemoryTrials(HOSTILE),
                desk=desk,
            )
        ),
        follow_redirects=False,
    )


def ids_of(view: MemoryView, policy: str) -> list[str]:
    return [row["request_id"] for row in view.tables["answers"] if row["policy"] == policy]


class Markup(HTMLParser):
    """Collects elements and attributes, and sees that what is opened is closed."""

    VOID = frozenset({"meta", "link", "input", "br", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def assert_is_sound(html: str) -> None:
    """Closed elements, distinct ids, and nothing that a strict policy of content security would not run."""
    markup = Markup(html)
    ids = [attributes["id"] for _, attributes in markup.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in markup.elements:
        assert tag not in ("style", "iframe", "object", "embed"), tag
        assert tag != "script" or attributes.get("src"), attributes
        assert not [name for name in attributes if name.startswith("on") or name == "style"], attributes
    assert "None" not in re.sub(r"<[^>]*>", " ", html), "a value that is not there shows"


def recorded(events: list[Event]) -> list[RecordedEvent]:
    return [
        RecordedEvent(event, f"e{place}", flow.key_of(event), "t", 0, place, made.NOW_MS + 10 * place, None)
        for place, event in enumerate(events)
    ]
