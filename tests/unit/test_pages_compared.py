"""Two requests or two paths side by side."""

import time

import pytest
from starlette.testclient import TestClient

from conclave.testing import events as made
from services.gateway.pages.rendering import changes
from tests.memory_view import MemoryView
from tests.pages_in_memory import assert_is_sound, ids_of


def test_two_requests_are_told_side_by_side_with_what_differs(view: MemoryView, pages: TestClient) -> None:
    left, right = ids_of(view, "default")[0], ids_of(view, "least-to-most")[0]
    html = pages.get("/compare", params={"id": [left, right]}).text
    assert_is_sound(html)
    assert html.count('class="differs"') >= 3
    assert "No such step." in html  # the one has one step, the other four
    assert "<td>least to most" in html, "names are told as they are on the request's own page"
    assert "· 1 path</p>" in html
    for chosen in ([], [left], [left, left], ["nonsense", made.REQUEST_ID]):
        choice = pages.get("/compare", params={"id": chosen})
        assert choice.status_code == 200
        assert 'type="checkbox"' in choice.text
        assert_is_sound(choice.text)


def test_of_more_than_two_requests_none_is_dropped_in_silence(view: MemoryView, pages: TestClient) -> None:
    asked = [row["request_id"] for row in view.tables["answers"]][:4]
    html = pages.get("/compare", params={"id": asked}).text
    assert "4 were ticked; these are the first two" in html
    for other in asked[2:]:
        assert f'href="/compare?id={asked[0]}&amp;id={other}"' in html
    assert_is_sound(html)
    assert "were ticked" not in pages.get("/compare", params={"id": asked[:2]}).text


def test_a_request_that_is_not_recorded_is_said_to_be_none(view: MemoryView, pages: TestClient) -> None:
    known = ids_of(view, "default")[0]
    for chosen, said in (
        ([known, made.REQUEST_ID], "One of these requests is not recorded"),
        ([known, "nonsense"], "One of these requests is not recorded"),
        ([made.REQUEST_ID], "This request is not recorded"),
    ):
        assert said in pages.get("/compare", params={"id": chosen}).text
    for chosen in ([], [known]):
        assert "not recorded." not in pages.get("/compare", params={"id": chosen}).text


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


def test_texts_of_words_that_come_again_and_again_keep_nobody_waiting() -> None:
    left, right = ("".join(f"a {name}{number} " for number in range(990)) for name in "xy")
    started = time.monotonic()
    here, there = changes(left, right)
    assert time.monotonic() - started < 5.0
    assert ("".join(piece for _, piece in here), "".join(piece for _, piece in there)) == (left, right)
    assert any(not differs for differs, _ in here), "what they have in common is found as far as there was time"
