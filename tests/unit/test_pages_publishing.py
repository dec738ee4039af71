"""What a visitor's forms publish: questions, feedback, reviews, and forks."""

import re
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from conclave.testing import events as made
from schemas import codec
from schemas.events import FeedbackGiven, ReasoningRequested
from schemas.experiments import Rater
from tests.memory_view import MemoryDesk, MemoryView
from tests.pages_in_memory import HERE, HOSTILE, Log, assert_is_sound, client, ids_of, recorded


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


def test_a_question_is_published_and_leads_to_its_page(pages: TestClient, log: Log) -> None:
    answer = pages.post("/ask", data={"question": " 2+2? ", "policy": "fixed-8"}, headers=HERE)
    (event,) = log.events
    assert isinstance(event, ReasoningRequested)
    assert (event.question, event.policy) == ("2+2?", "fixed-8")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/requests/{event.request_id}")
    waiting = pages.get(answer.headers["location"])
    assert "On its way" in waiting.text
    assert_is_sound(waiting.text)


@pytest.mark.parametrize("policy", ["no-such", "mail ann@shop.example", "x" * 81])
def test_a_question_for_a_policy_that_is_not_offered_is_not_published(pages: TestClient, log: Log, policy: str) -> None:
    refused = pages.post("/ask", data={"question": "2+2?", "policy": policy}, headers=HERE)
    assert (refused.status_code, "There is no policy of that name" in refused.text) == (422, True)
    assert_is_sound(refused.text)
    assert log.events == []


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


def test_feedback_that_is_noted_is_said_with_its_thanks_and_what_is_not_in_a_few_words(
    view: MemoryView, pages: TestClient, log: Log
) -> None:
    (request_id, *_) = ids_of(view, "default")
    said, by_htmx = {"request_id": request_id, "reward": "1"}, HERE | {"HX-Request": "true"}
    assert (
        '<div id="said" hx-swap-oob="innerHTML">Right, noted</div>'
        in pages.post("/feedback", data=said, headers=by_htmx).text
    )
    log.is_away = True
    for data, headers, status, words in (
        (said, by_htmx, 503, "The log is away"),
        (said | {"reward": "2"}, by_htmx, 422, "says 0 or 1"),
        (said, {"HX-Request": "true"}, 403, "this site"),
    ):
        part = pages.post("/feedback", data=data, headers=headers)
        assert part.status_code == status
        assert words in part.text
        assert "noted" not in part.text.replace("Not noted", "")
        assert not re.search(r"<(html|main|form)", part.text), "a part, and no page"
    page = pages.post("/feedback", data=said, headers=HERE)
    assert (page.status_code, "<html" in page.text) == (503, True)
    assert len(log.events) == 1


def test_a_form_swaps_in_what_is_said_of_it_and_a_page_that_asks_again_nothing_that_failed(
    view: MemoryView, pages: TestClient
) -> None:
    (request_id, *_) = ids_of(view, "default")
    page = pages.get(f"/requests/{request_id}").text
    assert '"noSwap": [204, 304, "4xx", "5xx"]' in page
    for status in (403, 422, 503):
        assert f"hx-status:{status}=" in page


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


def test_when_the_log_is_away_the_question_is_kept_in_the_form(pages: TestClient, log: Log) -> None:
    log.is_away = True
    answer = pages.post("/ask", data={"question": "2+2?"}, headers=HERE)
    assert answer.status_code == 503
    assert ">2+2?</textarea>" in answer.text


@pytest.mark.parametrize("is_away", [True, False])
def test_a_form_that_comes_back_holds_the_policy_that_was_chosen(pages: TestClient, log: Log, is_away: bool) -> None:
    log.is_away = is_away
    answer = pages.post("/ask", data={"question": "2+2?" if is_away else " ", "policy": "sure"}, headers=HERE)
    assert answer.status_code == (503 if is_away else 422)
    assert "<option selected>sure</option>" in answer.text


def test_without_a_way_to_publish_nothing_is_offered(view: MemoryView) -> None:
    (request_id, *_) = ids_of(view, "default")
    with client(view, None) as pages:
        assert "<form" not in pages.get("/").text.replace('<form method="dialog">', "")
        assert 'action="/feedback"' not in pages.get(f"/requests/{request_id}").text
        assert pages.post("/ask", data={"question": "2+2?"}, headers=HERE).status_code == 422


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
