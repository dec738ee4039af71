"""The pages over a record in memory: what they show, and that they are sound."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from conclave.errors import LostDependency
from conclave.testing import events as made
from schemas.events import Event, ReasoningRequested, RequestFailed
from schemas.ids import derived_request_id
from schemas.values import RECALLED, FieldVerdict, Outcome, RequestFailure, TallyRow
from services.gateway.pages import KeptFiles, routes_over
from services.gateway.pages.figures import Figures
from services.gateway.pages.rendering import STATIC
from services.gateway.pages.view import View
from tests.memory_view import MemoryFigures, MemoryView
from tests.pages_in_memory import HERE, HOSTILE, Log, assert_is_sound, client, ids_of, recorded, topics


def test_every_page_of_the_record_is_sound_markup(view: MemoryView, pages: TestClient) -> None:
    asked = [row["request_id"] for row in view.tables["requests"]]
    for path in (
        "/",
        "/requests",
        "/live",
        "/quality",
        "/experiments",
        "/review",
        "/system",
        "/system/changes",
        *(f"/requests/{each}" for each in asked),
    ):
        answer = pages.get(path)
        assert answer.status_code == 200, path
        assert_is_sound(answer.text)


def test_pages_of_requests_whose_words_are_not_kept_are_sound_and_show_their_figures(view: MemoryView) -> None:
    bare = MemoryView(view.events, is_bare=True)
    with client(bare, Log()) as pages:
        for row in bare.tables["requests"]:
            page = pages.get(f"/requests/{row['request_id']}")
            assert page.status_code == 200
            assert_is_sound(page.text)
        shown = [pages.get(f"/requests/{each}").text for each in ids_of(bare, "default")]
        assert any("is not kept, or was erased" in page for page in shown)
        both = "&".join(f"id={row['request_id']}" for row in bare.tables["requests"][:2])
        for path in ("/", "/requests", "/live", f"/compare?{both}"):
            assert_is_sound(pages.get(path).text)


def test_a_request_is_told_with_route_votes_verdict_and_cost(view: MemoryView, pages: TestClient) -> None:
    (request_id, *_) = ids_of(view, "least-to-most")
    html = pages.get(f"/requests/{request_id}").text
    (answer,) = [row for row in view.tables["answers"] if row["request_id"] == request_id]
    paths = [row for row in view.tables["paths"] if row["request_id"] == request_id]
    assert f'<p class="big" dir="auto">{answer["answer"]}</p>' in html
    assert html.count('<details class="path ') == len(paths)
    assert 'aria-label="The plan as a graph' in html
    assert html.count('<section class="step') == 4
    assert "Stopped after" in html
    assert f'href="/requests/{request_id}.json"' in html


def test_the_legend_of_time_shows_every_kind_of_bar_as_it_is_drawn(view: MemoryView, pages: TestClient) -> None:
    seen = set[str]()
    for row in view.tables["answers"]:
        time = (
            pages.get(f"/requests/{row['request_id']}")
            .text.partition('<div class="fall">')[2]
            .partition("</section>")[0]
        )
        drawn, _, legend = time.partition('<p class="legend"')
        kinds = set(re.findall(r'class="w-(\w+)"', drawn)) - {"step", "stage"}
        assert set(re.findall(r'class="w-(\w+)"', legend)) == kinds
        seen |= kinds
    assert {"a0", "a1", "a2"} <= seen


def test_what_no_answer_leans_on_stays_and_is_dim() -> None:
    plan = made.plan(2)
    events: list[Event] = [
        ReasoningRequested(question="all of it?", request_id=made.REQUEST_ID),
        plan,
        made.verdict(0, "3"),
        made.verdict(1, "4"),
        made.answer("4", answered_by=1),
    ]
    with client(MemoryView(recorded(events)), None) as pages:
        html = pages.get(f"/requests/{made.REQUEST_ID}").text
    assert '<section class="step dim" id="step-0"' in html
    assert '<section class="step answer" id="step-1"' in html
    assert "1 that the answer does not lean on" in html


def test_a_structured_answer_is_told_field_by_field() -> None:
    tally = (TallyRow(answer='"Paris"', votes=3, weight=3.0), TallyRow(answer=HOSTILE, votes=1, weight=1.0))
    city = FieldVerdict(name="city", outcome=Outcome.MAJORITY, confidence=0.97, agreement=0.75, margin=0.5, tally=tally)
    split = FieldVerdict(name=HOSTILE[:50], outcome=Outcome.NO_ANSWER, confidence=0.5, agreement=0.25, margin=0.0)
    events: list[Event] = [
        ReasoningRequested(question="where?", request_id=made.REQUEST_ID),
        made.plan(),
        made.verdict(0, '{"city": "Paris"}', fields=(city, split)),
        made.answer('{"city": "Paris"}'),
    ]
    with client(MemoryView(recorded(events)), None) as pages:
        html = pages.get(f"/requests/{made.REQUEST_ID}").text
    assert "&#34;Paris&#34;</bdi></code>" in html
    assert "no consensus" in html
    assert_is_sound(html)


def test_an_open_request_is_asked_for_every_second_and_an_ended_one_no_more(
    view: MemoryView, pages: TestClient
) -> None:
    ended = {row["request_id"] for row in view.tables["answers"]}
    (still,) = [row["request_id"] for row in view.tables["requests"] if row["request_id"] not in ended]
    assert 'hx-trigger="every 1s"' in pages.get(f"/requests/{still}").text
    body = pages.get(f"/requests/{still}/body").text
    assert body.startswith("<article")
    assert "hx-trigger" not in pages.get(f"/requests/{next(iter(ended))}/body").text


@pytest.mark.parametrize("request_id", [made.REQUEST_ID, "nonsense", "01a21904-b16d-715c-9803-d7abd140051"])
def test_what_is_not_recorded_is_not_found(pages: TestClient, request_id: str) -> None:
    for path in (f"/requests/{request_id}", f"/requests/{request_id}.json", f"/requests/{request_id}/body"):
        assert pages.get(path).status_code == 404
    part = pages.get(f"/requests/{request_id}/body", headers={"HX-Request": "true"}).text
    assert part.startswith('<article id="story"')
    assert "hx-trigger" not in part


def test_a_request_that_failed_says_why(view: MemoryView) -> None:
    events: list[Event] = [
        ReasoningRequested(question="q", request_id=made.REQUEST_ID),
        RequestFailed(request_id=made.REQUEST_ID, failure=RequestFailure.DEADLINE, message="time was up"),
    ]
    with client(MemoryView(recorded(events)), Log()) as pages:
        html = pages.get(f"/requests/{made.REQUEST_ID}").text
    assert "No answer" in html
    assert "time was up" in html
    assert_is_sound(html)


def test_what_was_filtered_by_is_shown_also_where_no_late_request_is_like_it(pages: TestClient) -> None:
    html = pages.get("/requests", params={"policy": "long-ago", "arm": "old"}).text
    assert "<option selected>long-ago</option>" in html
    assert "<option selected>old</option>" in html


def test_a_filter_that_can_not_be_is_told_and_not_shown_as_if_it_held(pages: TestClient) -> None:
    html = pages.get("/requests", params={"outcome": "open", "max_confidence": "0.5", "max_agreement": "0.5"}).text
    assert "What is still open has no confidence and no agreement yet: these were left out" in html
    assert 'value="0.5"' not in html
    assert '<option value="open" selected>' in html
    html = pages.get("/requests", params={"outcome": "unheard-of"}).text
    assert "An outcome is one of: majority, tie, failed, still open" in html


class Away:
    """A record that is away."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return self._lost

    async def _lost(self, *args: object, **named: object) -> Any:
        raise LostDependency("postgres", "gone")


def test_while_the_record_is_away_pages_say_so_in_words() -> None:
    app = Starlette(routes=routes_over(cast(View, Away()), cast(Figures, Away()), Log().publish))
    with TestClient(app) as pages:
        for path in ("/", "/requests", f"/requests/{made.REQUEST_ID}", "/live", "/quality", "/system"):
            answer = pages.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), path
            assert "The record is away" in answer.text
            assert_is_sound(answer.text)
        part = pages.get(f"/requests/{made.REQUEST_ID}/body", headers={"HX-Request": "true"})
        assert (part.status_code, "<html" in part.text) == (503, False)


def test_an_answer_that_was_given_again_leads_to_the_request_that_was_thought_about() -> None:
    first = str(derived_request_id(made.NOW_MS - 60_000, "first"))
    plan = replace(made.plan(), recalled_from=first)
    events: list[Event] = [
        ReasoningRequested(question="again?", request_id=made.REQUEST_ID),
        plan,
        replace(made.verdict(0, "3"), stop_reason=RECALLED, launched=0),
        made.answer("3"),
    ]
    with client(MemoryView(recorded(events)), None) as pages:
        html = pages.get(f"/requests/{made.REQUEST_ID}").text
    assert f'<a href="/requests/{first}">' in html
    assert f'href="/compare?id={first}&amp;id={made.REQUEST_ID}"' in html
    assert "nothing was drawn" not in html
    assert_is_sound(html)


class NoFigures:
    """Figures of a record that nothing is in yet."""

    def __getattr__(self, name: str) -> Callable[[], Awaitable[tuple[Any, ...]]]:
        return self._nothing

    async def _nothing(self) -> tuple[Any, ...]:
        return ()


def test_pages_over_an_empty_record_are_there_and_say_so() -> None:
    app = Starlette(routes=routes_over(MemoryView([]), cast(Figures, NoFigures()), Log().publish))
    with TestClient(app) as pages:
        for path in (
            "/",
            "/requests",
            "/live",
            "/compare",
            "/quality",
            "/experiments",
            "/system",
            "/system/log",
            "/system/changes",
        ):
            answer = pages.get(path)
            assert answer.status_code == 200, path
            assert_is_sound(answer.text)


def test_an_experiment_is_told_with_its_traffic_what_it_has_shown_and_whether_it_holds_together(
    pages: TestClient,
) -> None:
    assert 'href="/experiments/sure-or-plain"' in pages.get("/experiments").text
    html = pages.get("/experiments/sure-or-plain").text
    assert html.count('data-value="70.0"') == 1  # the newest share
    assert "not as they should be" in html  # no digest holds
    report = pages.get("/experiments/sure-or-plain/report")
    part = pages.get("/experiments/sure-or-plain/report", headers={"HX-Request": "true"}).text
    for each in (html, report.text, part):
        assert_is_sound(each)
        assert "<script>alert" not in each
    assert "<html" not in part
    assert "By task" in part
    assert all(f'<th scope="row">{segment}</th>' in part for segment in ("sums", "the rest"))
    assert "in the ratio that was drawn" in part or "figures" in part
    for path in ("/experiments/nobody", "/experiments/nobody/report", "/experiments/%3Cscript%3E"):
        assert pages.get(path).status_code == 404


def test_how_the_log_does_is_told_beside_the_page_and_on_one_of_its_own(pages: TestClient) -> None:
    assert 'hx-get="/system/log"' in pages.get("/system").text
    own = pages.get("/system/log").text
    assert_is_sound(own)
    part = pages.get("/system/log", headers={"HX-Request": "true"}).text
    assert_is_sound(part)
    assert "<html" not in part
    for html in (own, part):
        assert "2 dead letters" in html
        assert "voter" in html


def test_a_browser_keeps_files_by_their_version_and_every_file_that_a_page_names_is_there(view: MemoryView) -> None:
    app = Starlette(
        routes=[Mount("/static", KeptFiles(directory=STATIC)), *routes_over(view, MemoryFigures(view), topics=topics)]
    )
    with TestClient(app) as pages:
        named = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', pages.get("/system").text))
        assert len(named) >= 8
        for path in named:
            file = pages.get(path)
            assert file.status_code == 200, path
            assert "immutable" in file.headers["cache-control"]
        assert pages.get("/static/pages.css").headers["cache-control"] == "no-cache"


def test_pages_live_under_another_root_when_they_are_mounted_there(view: MemoryView) -> None:
    app = Starlette(routes=routes_over(view, MemoryFigures(view), Log().publish))
    with TestClient(app, root_path="/conclave", follow_redirects=False) as pages:
        html = pages.get("/conclave/requests").text
        assert 'href="/conclave/requests/' in html
        assert not re.search(r'(?:href|src|action)="/(?!conclave/)', html)
        assert (
            pages.post("/conclave/ask", data={"question": "2?"}, headers=HERE)
            .headers["location"]
            .startswith("/conclave/")
        )
