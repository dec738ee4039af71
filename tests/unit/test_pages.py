"""The pages over a record in memory: what they show, what they refuse, and that no text becomes markup."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from conclave.domain.recorded import RecordedEvent
from conclave.errors import LostDependency
from conclave.runtime.client import TopicState
from conclave.testing import events as made
from schemas import codec, flow
from schemas.events import Event, FeedbackGiven, PlanMade, ReasoningRequested, RequestFailed
from schemas.experiments import Rater
from schemas.values import FieldVerdict, Outcome, RequestFailure, Step, TallyRow
from services.gateway.pages import KeptFiles, routes_over
from services.gateway.pages.figures import Figures
from services.gateway.pages.rendering import STATIC, changes
from tests.memory_view import MemoryDesk, MemoryFigures, MemoryTrials, MemoryView
from tests.played import played

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


@pytest.fixture(scope="module")
def view() -> MemoryView:
    return MemoryView(asyncio.run(played(10, now_ms=made.NOW_MS)))


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def pages(view: MemoryView, log: Log) -> Iterator[TestClient]:
    with client(view, log) as pages:
        yield pages


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


def test_answers_are_reviewed_one_after_the_other(view: MemoryView, log: Log) -> None:
    desk = MemoryDesk.of(view)
    hostile = replace(desk.items[0], question=HOSTILE, answer=HOSTILE)
    desk.items[0] = hostile
    with client(view, log, desk) as pages:
        taken = pages.post("/review/claim", data={"reviewer": "ann & co"}, headers=HERE)
        assert (taken.status_code, taken.headers["location"]) == (303, "/review?reviewer=ann+%26+co")
        html = pages.get(taken.headers["location"]).text
        assert_is_sound(html)
        assert "<script>alert" not in html
        said = {"reviewer": "ann & co", "request_id": hostile.request_id, "reward": "0", "right_answer": " 7 "}
        assert pages.post("/review/verdict", data=said, headers=HERE).status_code == 303
        (given,) = log.events
        assert isinstance(given, FeedbackGiven)
        assert (given.source, given.rater, given.reward, given.right_answer) == ("ann & co", Rater.EXPERT, 0.0, "7")
        last = taken
        for item in desk.items[1:]:
            skipped = {"reviewer": "ann & co", "request_id": item.request_id, "reward": "skip"}
            last = pages.post("/review/verdict", data=skipped, headers=HERE)
        assert "Nothing is left for ann &amp; co" in pages.get(last.headers["location"]).text
        assert len(log.events) == 1


@pytest.mark.parametrize(
    ("path", "changes", "status"),
    [
        ("/review/claim", {"reviewer": " "}, 422),
        ("/review/claim", {"reviewer": "a" * 65}, 422),
        ("/review/verdict", {"reward": "0.5"}, 422),
        ("/review/verdict", {"request_id": "7"}, 422),
        ("/review/verdict", {"right_answer": "9" * 5000}, 422),
        ("/review/verdict", {"reviewer": ""}, 422),
    ],
)
def test_a_verdict_that_can_not_be_is_refused(
    view: MemoryView, log: Log, path: str, changes: dict[str, str], status: int
) -> None:
    desk = MemoryDesk.of(view)
    said = {"reviewer": "ann", "request_id": desk.items[0].request_id, "reward": "1"} | changes
    with client(view, log, desk) as pages:
        assert pages.post(path, data=said, headers=HERE).status_code == status
        assert pages.post(path, data=said | {"reviewer": "ann"}, headers={}).status_code == 403
        log.is_away = True
        sound = said | {"reviewer": "ann", "request_id": desk.items[0].request_id, "reward": "1", "right_answer": ""}
        assert pages.post("/review/verdict", data=sound, headers=HERE).status_code == 503
    assert (log.events, desk.done["ann"]) == ([], [])


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


def recorded(events: list[Event]) -> list[RecordedEvent]:
    return [
        RecordedEvent(event, f"e{place}", flow.key_of(event), "t", 0, place, made.NOW_MS + 10 * place, None)
        for place, event in enumerate(events)
    ]


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


def test_a_question_is_published_and_leads_to_its_page(pages: TestClient, log: Log) -> None:
    answer = pages.post("/ask", data={"question": " 2+2? ", "policy": "fixed-8"}, headers=HERE)
    (event,) = log.events
    assert isinstance(event, ReasoningRequested)
    assert (event.question, event.policy) == ("2+2?", "fixed-8")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/requests/{event.request_id}")
    waiting = pages.get(answer.headers["location"])
    assert "On its way" in waiting.text
    assert_is_sound(waiting.text)


@pytest.mark.parametrize("question", ["", " \u200b ", "a\0b", "x" * 16_385])
def test_what_is_no_question_is_not_published(pages: TestClient, log: Log, question: str) -> None:
    assert pages.post("/ask", data={"question": question}, headers=HERE).status_code == 422
    assert log.events == []


def test_feedback_is_published_and_answered_with_or_without_scripts(
    view: MemoryView, pages: TestClient, log: Log
) -> None:
    (request_id, *_) = ids_of(view, "default")
    plain = pages.post("/feedback", data={"request_id": request_id, "reward": "1"}, headers=HERE)
    assert (plain.status_code, plain.headers["location"]) == (303, f"/requests/{request_id}")
    swapped = pages.post(
        "/feedback", data={"request_id": request_id, "reward": "0"}, headers=HERE | {"HX-Request": "true"}
    )
    assert "Wrong" in swapped.text
    assert_is_sound(swapped.text)
    assert log.events == [FeedbackGiven(request_id=request_id, reward=reward, source="page") for reward in (1.0, 0.0)]


def test_feedback_on_a_path_says_which_and_leaves_the_answer_alone(
    view: MemoryView, pages: TestClient, log: Log
) -> None:
    (request_id, *_) = ids_of(view, "least-to-most")
    place = {"request_id": request_id, "step_index": "1", "sample_index": "2"}
    assert 'name="sample_index"' in pages.get(f"/requests/{request_id}").text
    answer = pages.post("/feedback", data=place | {"reward": "0"}, headers=HERE)
    assert answer.headers["location"] == f"/requests/{request_id}#path-1-2"
    assert log.events == [FeedbackGiven(request_id=request_id, reward=0.0, source="page", step_index=1, sample_index=2)]
    for wrong in (
        {"step_index": ""},
        {"sample_index": "x"},
        {"step_index": "-1"},
        {"sample_index": "999"},
        {"reward": "2"},
    ):
        assert pages.post("/feedback", data=place | {"reward": "1"} | wrong, headers=HERE).status_code == 422
    assert len(log.events) == 1


def test_feedback_on_a_step_names_no_path(view: MemoryView, pages: TestClient, log: Log) -> None:
    (request_id, *_) = ids_of(view, "least-to-most")
    page = pages.get(f"/requests/{request_id}").text
    of_a_step = re.compile(r'name="step_index" value="1">\s*<span')
    assert of_a_step.search(page), "a form of a step alone"
    answer = pages.post("/feedback", data={"request_id": request_id, "step_index": "1", "reward": "1"}, headers=HERE)
    assert answer.headers["location"] == f"/requests/{request_id}#step-1"
    assert log.events == [FeedbackGiven(request_id=request_id, reward=1.0, source="page", step_index=1)]


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


def test_when_the_log_is_away_the_question_is_kept_in_the_form(pages: TestClient, log: Log) -> None:
    log.is_away = True
    answer = pages.post("/ask", data={"question": "2+2?"}, headers=HERE)
    assert answer.status_code == 503
    assert ">2+2?</textarea>" in answer.text


def test_without_a_way_to_publish_nothing_is_offered(view: MemoryView) -> None:
    (request_id, *_) = ids_of(view, "default")
    with client(view, None) as pages:
        assert "<form" not in pages.get("/").text.replace('<form method="dialog">', "")
        assert 'action="/feedback"' not in pages.get(f"/requests/{request_id}").text
        assert pages.post("/ask", data={"question": "2+2?"}, headers=HERE).status_code == 422


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


def test_two_requests_are_told_side_by_side_with_what_differs(view: MemoryView, pages: TestClient) -> None:
    left, right = ids_of(view, "default")[0], ids_of(view, "least-to-most")[0]
    html = pages.get("/compare", params={"id": [left, right]}).text
    assert_is_sound(html)
    assert html.count('class="differs"') >= 3
    assert "No such step." in html  # the one has one step, the other four
    for chosen in ([], [left], [left, left], ["nonsense", made.REQUEST_ID]):
        choice = pages.get("/compare", params={"id": chosen})
        assert choice.status_code == 200
        assert 'type="checkbox"' in choice.text
        assert_is_sound(choice.text)


def test_two_paths_are_told_side_by_side_with_the_words_that_differ(view: MemoryView, pages: TestClient) -> None:
    (request_id, *_) = ids_of(view, "fixed-8")
    params = {"left": f"{request_id}/0/0", "right": f"{request_id}/0/1"}
    html = pages.get("/compare", params=params).text
    assert_is_sound(html)
    assert "<mark>" in html
    for wrong in (
        "",
        "x",
        f"{request_id}/0/99",
        f"{request_id}/7/0",
        f"{made.REQUEST_ID}/0/0",
    ):
        assert pages.get("/compare", params=params | {"right": wrong}).status_code == 404


@pytest.mark.parametrize(("left", "right"), [("", ""), ("a b", "a c"), ("a\0b  c", "a"), ("x\ny", "x\n\ny z")])
def test_a_comparison_leaves_nothing_out(left: str, right: str) -> None:
    here, there = changes(left, right)
    assert "".join(piece for _, piece in here) == left.replace("\0", "")
    assert "".join(piece for _, piece in there) == right
    assert any(differs for differs, _ in [*here, *there]) is (left != right)


def test_a_request_is_asked_again_from_a_step_with_what_was_decided_before(
    view: MemoryView, pages: TestClient, log: Log
) -> None:
    (request_id, *_) = ids_of(view, "least-to-most")
    html = pages.get(f"/requests/{request_id}").text
    assert html.count('action="/fork"') == 4
    answer = pages.post("/fork", data={"request_id": request_id, "from_step": "2"}, headers=HERE)
    (event,) = log.events
    assert isinstance(event, ReasoningRequested)
    assert answer.headers["location"] == f"/requests/{event.request_id}"
    assert event.policy == "least-to-most"
    assert event.fork is not None
    assert event.fork.request_id == request_id
    verdicts = {row["step_index"]: row for row in view.tables["verdicts"] if row["request_id"] == request_id}
    assert [(kept.step.mark, kept.answer) for kept in event.fork.kept] == [
        ("split", verdicts[0]["answer"]), ("#1", verdicts[1]["answer"]),
    ]  # fmt: skip
    assert codec.decode("reasoning.requests", codec.versioned_type(ReasoningRequested), codec.encode(event)) == event
    with client(MemoryView(recorded([event])), log) as after:
        assert "forked from" in after.get(f"/requests/{event.request_id}").text


@pytest.mark.parametrize("from_step", ["4", "-1", "", "x", "99", "999"])
def test_what_is_no_step_is_not_forked(view: MemoryView, pages: TestClient, log: Log, from_step: str) -> None:
    (request_id, *_) = ids_of(view, "least-to-most")
    for each in (request_id, made.REQUEST_ID, "x"):
        assert pages.post("/fork", data={"request_id": each, "from_step": from_step}, headers=HERE).status_code == 422
    assert log.events == []


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
