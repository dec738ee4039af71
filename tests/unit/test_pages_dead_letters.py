"""Dead letters in the pages: what is shown of them, and another try under somebody's name."""

from contextlib import nullcontext

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from conclave.errors import LostDependency, Rejected
from conclave.runtime.dead_letters import REPLAY_HEADER, LetterPlace
from conclave.runtime.record import Output
from conclave.store.letter_replays import NOT_REPLAYED, REPLAYED
from schemas import flow
from services.gateway.letters import Letters
from services.gateway.pages import routes_over
from tests.memory_letters import MemoryLetters, letter
from tests.memory_view import MemoryFigures, MemoryView
from tests.pages_in_memory import HERE, HOSTILE, assert_is_sound, topics

SECRET = "sk-" + "a1B2" * 12
ID = "reasoning.paths.dead-letters/0/7"
BY_HTMX = {"HX-Request": "true"}


def browser(view: MemoryView, letters: MemoryLetters) -> TestClient:
    routes = routes_over(view, MemoryFigures(view), topics=topics, letters=letters)
    return TestClient(Starlette(routes=routes), follow_redirects=False)


def test_dead_letters_are_listed_with_why_and_no_text_of_theirs_becomes_markup(view: MemoryView) -> None:
    value = f"\n{HOSTILE} {SECRET}\x1b[2J\u202e second\nthird".encode()
    hostile = letter(7, value, error=HOSTILE, field=HOSTILE, service=HOSTILE, reason=HOSTILE)
    with browser(view, MemoryLetters([letter(3, b"\xff\x00"), letter(5, None), hostile])) as pages:
        assert 'hx-get="/system/dead-letters"' in pages.get("/system").text
        for path in ("/system/dead-letters", f"/system/dead-letters/{ID}"):
            for headers in ({}, BY_HTMX):
                html = pages.get(path, headers=headers).text
                assert_is_sound(html)
                assert "<script>alert" not in html
                assert "<img" not in html
                assert "\u202e" not in html
                assert "\x1b" not in html
                assert SECRET not in html
        listed = pages.get("/system/dead-letters", headers=BY_HTMX).text
        assert "<html" not in listed
        assert listed.index("0/7") < listed.index("0/3"), "the newest first"
        assert "$.answer" in listed
        assert "third" not in listed, "only the first line"
        assert "third" in pages.get(f"/system/dead-letters/{ID}").text


@pytest.mark.parametrize("num_shown", range(4, len(SECRET), 9))
def test_no_part_of_a_secret_is_shown_that_lies_where_a_letter_is_cut(view: MemoryView, num_shown: int) -> None:
    value = "x" * (64_000 - num_shown - 1) + " " + SECRET + " and on"
    with browser(view, MemoryLetters([letter(7, value.encode())])) as pages:
        shown = pages.get(f"/system/dead-letters/{ID}").text
    assert SECRET[:4] not in shown


def test_a_dead_letter_is_replayed_as_it_was_received_under_the_name_of_who_did_it(view: MemoryView) -> None:
    letters = MemoryLetters([letter(7, b'{"a": 1}')])
    with browser(view, letters) as pages:
        answer = pages.post("/system/dead-letters/replay", data={"letter_id": ID}, headers=HERE)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/system/dead-letters/{ID}")
        ((replayed, output, actor),) = letters.replayed
        assert (replayed, output.topic, output.key, output.value) == (ID, "reasoning.paths", b"key", b'{"a": 1}')
        assert [name for name, _ in output.headers] == [REPLAY_HEADER]
        assert actor == "unknown"  # no guard stands before these pages
        shown = pages.get(answer.headers["location"]).text
        assert "replayed" in shown
        assert "Replay again" in shown
        assert_is_sound(shown)


def test_what_can_not_be_replayed_is_not_and_the_page_says_why(view: MemoryView) -> None:
    partial = letter(8, None, value_bytes="5000000")
    refused = letter(9, service="recorder")  # by the record's database: the guardian may have handled it
    letters = MemoryLetters([letter(7), partial, refused])
    with browser(view, letters) as pages:
        listed = pages.get("/system/dead-letters").text
        assert "lacks its value" in listed
        assert "the record’s alone" in listed
        assert listed.count('action="/system/dead-letters/replay"') == 1
        for named, headers, status in (
            (ID, {}, 403),
            (ID, {"origin": "http://elsewhere"}, 403),
            (partial.id, HERE, 422),
            (refused.id, HERE, 422),
            (ID.replace("/7", "/99"), HERE, 404),
            ("", HERE, 404),
            ("reasoning.paths/0/7", HERE, 404),
            ("x" * 10_000, HERE, 404),
        ):
            answer = pages.post("/system/dead-letters/replay", data={"letter_id": named}, headers=headers)
            assert answer.status_code == status, named[:60]
            assert_is_sound(answer.text)
        letters.takes_nothing = True
        not_taken = pages.post("/system/dead-letters/replay", data={"letter_id": ID}, headers=HERE)
        assert not_taken.status_code == 503
        assert f"conclave dead-letters replay {ID}" in not_taken.text
        assert pages.get("/system/dead-letters/nothing").status_code == 404
    assert letters.replayed == []


def test_while_the_log_is_away_the_list_says_so(view: MemoryView) -> None:
    with browser(view, MemoryLetters([letter(7)], is_away=True)) as pages:
        assert "Kafka is away" in pages.get("/system/dead-letters").text
        assert pages.get(f"/system/dead-letters/{ID}").status_code == 503
    with browser(view, MemoryLetters([])) as pages:
        assert "There are none" in pages.get("/system/dead-letters").text


@pytest.mark.parametrize("topic", [row.topic for row in flow.TOPICS if not row.is_broadcast])
def test_the_id_of_a_dead_letter_says_where_it_lies(topic: flow.Topic) -> None:
    assert LetterPlace.parsed(f"{topic.value}.dead-letters/0/12") == (place := LetterPlace(topic, 0, 12))
    assert place.topic == flow.dead_letter_topic(topic.value)


@pytest.mark.parametrize(
    "text",
    ["", "/", "reasoning.paths/0/1", "x.dead-letters/0/1", ID + "/1", ID + "x", ID[:-2], ID[:-1] + "-1", ID[:-1] + "9" * 19,
     ID[:-1] + "٣"],
)  # fmt: skip
def test_what_is_no_id_of_a_dead_letter_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match="dead-letters/<partition>/<offset>"):
        LetterPlace.parsed(text)


class Noted:
    """What a log and a record are given, in order."""

    def __init__(self, *, loses: str = "") -> None:
        self.done: list[str] = []
        self.loses = loses

    async def note(self, letter_id: str, *, actor: str, reason: str, action: str = REPLAYED) -> None:
        self._lose("postgres")
        self.done.append(f"{action} {letter_id} by {actor}: {reason}")

    async def publish_raw(self, output: Output) -> None:
        self._lose("kafka")
        self.done.append(f"published to {output.topic}")

    def _lose(self, dependency: str) -> None:
        if self.loses == dependency:
            raise LostDependency(dependency, "it is away")


@pytest.mark.parametrize(
    ("loses", "done"),
    [
        ("", [f"{REPLAYED} {ID} by ann: schema", "published to reasoning.paths"]),
        ("postgres", []),
        ("kafka", [f"{REPLAYED} {ID} by ann: schema", f"{NOT_REPLAYED} {ID} by ann: schema"]),
    ],
)
async def test_nothing_is_replayed_that_is_not_written_down_first(loses: str, done: list[str]) -> None:
    noted = Noted(loses=loses)
    letters = Letters("127.0.0.1:1", noted, noted, str)  # type: ignore[arg-type]
    with pytest.raises(LostDependency, match=loses) if loses else nullcontext():
        await letters.replay(letter(7), token="t", actor="ann")
    assert noted.done == done
