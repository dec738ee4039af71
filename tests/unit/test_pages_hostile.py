"""No text of a model, a user or a visitor becomes markup, and no other site's form is taken."""

import pytest
from starlette.testclient import TestClient

from conclave.store.listing import Filter, Key
from conclave.store.view import Page
from conclave.testing import events as made
from schemas.events import Event, FeedbackGiven, PlanMade, ReasoningRequested
from schemas.values import Step
from tests.memory_view import MemoryView
from tests.pages_in_memory import HERE, HOSTILE, Log, assert_is_sound, client, recorded


def hostile_events() -> list[Event]:
    """A request whose every text is written to break out of a page."""
    step = Step(index=0, fields={"question": HOSTILE}, mark=HOSTILE[:200], why=HOSTILE[:200])
    context = made.context(mark=HOSTILE[:200], fields={"question": HOSTILE}, why=HOSTILE[:200])
    path = made.decoded(context, 0, 2, HOSTILE)
    return [
        ReasoningRequested(question=HOSTILE, request_id=made.REQUEST_ID, tags={HOSTILE[:200]: HOSTILE[:200]}),
        PlanMade(
            request_id=made.REQUEST_ID, question=HOSTILE, arm="default", propensity=0.5, policy=made.policy(), steps=(step,),
            deadline_ms=made.DEADLINE_MS, reasons={HOSTILE[:200]: HOSTILE[:200]},
        ),
        path,
        made.failed(context, 1, 2),
        made.verdict(0, HOSTILE),
        made.answer(HOSTILE),
        FeedbackGiven(request_id=made.REQUEST_ID, reward=0.0, comment=HOSTILE, right_answer=HOSTILE, source=HOSTILE[:200]),
    ]  # fmt: skip


HOSTILE_PATH = f"{made.REQUEST_ID}/0/0"
PATHS = ("/", "/requests", "/live", f"/requests/{made.REQUEST_ID}", f"/compare?id={made.REQUEST_ID}", "/quality")


@pytest.mark.parametrize("path", [*PATHS, f"/compare?left={HOSTILE_PATH}&right={HOSTILE_PATH}"])
def test_no_text_of_a_model_or_a_user_becomes_markup(path: str) -> None:
    with client(MemoryView(recorded(hostile_events())), Log()) as pages:
        html = pages.get(path).text
    assert_is_sound(html)
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "{{7*7}}" in html
    assert path == "/" or "&lt;script&gt;" in html


def test_what_a_visitor_types_is_escaped_too(pages: TestClient) -> None:
    listed = pages.get("/requests", params={"text": HOSTILE, "policy": HOSTILE, "max_confidence": HOSTILE})
    assert listed.status_code == 200
    assert_is_sound(listed.text)
    assert "must be a number from 0 to 1" in listed.text
    asked = pages.post("/ask", data={"question": HOSTILE, "policy": "x" * 100}, headers=HERE)
    assert asked.status_code == 422
    assert_is_sound(asked.text)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://elsewhere"},
        {"origin": "null"},
        {"origin": "http://testserver.elsewhere"},
        {"sec-fetch-site": "cross-site", "origin": "http://testserver"},
    ],
)
def test_forms_of_other_sites_are_refused(pages: TestClient, log: Log, headers: dict[str, str]) -> None:
    for path in ("/ask", "/feedback", "/fork"):
        data = {"question": "2+2?", "request_id": made.REQUEST_ID, "reward": "1"}
        assert pages.post(path, data=data, headers=headers).status_code == 403
    assert log.events == []


def test_a_browser_that_tells_only_the_origin_may_send_its_form(pages: TestClient, log: Log) -> None:
    assert pages.post("/ask", data={"question": "2+2?"}, headers={"origin": "http://testserver"}).status_code == 303
    assert len(log.events) == 1


@pytest.mark.parametrize(
    "before", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-28T00:00:00", "x"]
)
def test_a_list_goes_on_from_its_beginning_where_no_database_knows_the_time_that_is_named(
    view: MemoryView, pages: TestClient, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    places: list[Key | None] = []

    async def requests(wanted: Filter, *, before: Key | None = None, limit: int = 50) -> Page:
        places.append(before)
        return await MemoryView.requests(view, wanted, before=before, limit=limit)

    monkeypatch.setattr(view, "requests", requests)
    assert pages.get("/requests", params={"before": before, "before_id": made.REQUEST_ID}).status_code == 200
    assert places == [None]
