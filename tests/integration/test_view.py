"""What pages read, on a real server: stories and lists as the services left them, filters and paging."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace as changed

from conclave.domain.api_keys import Scope
from conclave.domain.recorded import RecordedEvent
from conclave.store.accounts import Accounts
from conclave.store.figures import RecordFigures
from conclave.store.listing import Filter
from conclave.store.reader import Reader
from conclave.store.store import Store
from conclave.store.view import Page, RecordView
from conclave.testing import events as made
from schemas import flow
from schemas.events import Event, ReasoningRequested, RequestFailed
from schemas.ids import derived_request_id, new_request_id
from schemas.values import RequestFailure
from tests.memory_view import MemoryView
from tests.played import played

NUM_REQUESTS = 24


@pytest.fixture
async def told(fresh_database: str) -> AsyncIterator[tuple[RecordView, list[RecordedEvent]]]:
    """A view of a record, and the events that it was made of."""
    now_ms = int(time.time() * 1000)
    events = await played(NUM_REQUESTS, now_ms=now_ms)
    await write(fresh_database, events)
    reader = Reader(fresh_database)
    yield RecordView(reader), events
    await reader.close()


async def write(dsn: str, events: list[RecordedEvent]) -> None:
    store = Store(dsn)
    await store.maintain(int(time.time() * 1000))
    await store.write(events, {})
    await store.close()


async def test_lists_and_stories_are_what_the_events_say(told: tuple[RecordView, list[RecordedEvent]]) -> None:
    """The view in memory, which other tests of pages stand on, and the one in SQL tell the same."""
    view, events = told
    memory = MemoryView(events)
    page = await view.requests(Filter())
    assert page == await memory.requests(Filter())
    assert len(page.lines) == NUM_REQUESTS
    for line in page.lines:
        story, expected = await view.story(line.request_id), await memory.story(line.request_id)
        assert story is not None
        assert expected is not None
        assert story.policy
        for step, same in zip(story.steps, expected.steps, strict=True):
            assert step.paths == same.paths
            assert step == same
        assert story == expected


async def test_pages_of_a_list_hold_every_request_once(told: tuple[RecordView, list[RecordedEvent]]) -> None:
    view, _ = told
    seen: list[str] = []
    page = await view.requests(Filter(), limit=7)
    while True:
        seen += [line.request_id for line in page.lines]
        if page.oldest is None:
            break
        page = await view.requests(Filter(), before=page.oldest, limit=7)
    assert len(seen) == len(set(seen)) == NUM_REQUESTS
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("text", ["has", "dollars"])
async def test_pages_of_a_search_hold_every_find_once_whether_many_are_found_at_once_or_few(
    told: tuple[RecordView, list[RecordedEvent]], text: str
) -> None:
    view, _ = told
    expected = [line.request_id for line in (await view.requests(Filter(text=text))).lines]
    assert len(expected) > 4
    seen: list[str] = []
    page = await view.requests(Filter(text=text), limit=2)
    while True:
        seen += [line.request_id for line in page.lines]
        if page.oldest is None:
            break
        page = await view.requests(Filter(text=text), before=page.oldest, limit=2)
    assert seen == expected


FILTERS: list[tuple[Filter, Any]] = [
    (Filter(policy="default"), lambda line: line.policy == "default"),
    (Filter(arm="default"), lambda line: not line.is_open),
    (Filter(outcome="open"), lambda line: line.is_open),
    (Filter(outcome="open", policy="sure", max_agreement=0.5), lambda line: line.is_open and line.policy == "sure"),
    (Filter(outcome="open", arm="nobody"), lambda line: False),
    (Filter(outcome="failed", text="dollars"), lambda line: line.failure is not None),
    (Filter(outcome="majority", max_confidence=0.96), lambda line: line.outcome == "majority" and line.confidence <= 0.96),
    (Filter(max_agreement=0.7), lambda line: not line.is_open and line.agreement <= 0.7),
    (Filter(has_feedback=True), lambda line: line.reward is not None),
    (Filter(text="dollars -pens"), lambda line: "dollars" in line.question and "pens" not in line.question),
    (Filter(text='"how many" has', policy="sure"), lambda line: line.policy == "sure" and "How many" in line.question
     and " has " in line.question),
]  # fmt: skip


async def test_every_filter_finds_what_it_asks_for_and_nothing_else(
    told: tuple[RecordView, list[RecordedEvent]],
) -> None:
    view, _ = told
    everything = (await view.requests(Filter())).lines
    for wanted, is_meant in FILTERS:
        expected = [line.request_id for line in everything if is_meant(line)]
        found = [line.request_id for line in (await view.requests(wanted)).lines]
        assert found == expected, wanted
    assert sum(any(is_meant(line) for line in everything) for _, is_meant in FILTERS) >= 7
    for text in ("'", '"', "a & | !", "\\", "%", "(", "- -", "\u202e"):
        await view.requests(Filter(text=text))


async def test_a_request_of_1970_has_its_story(fresh_database: str) -> None:
    request_id = str(derived_request_id(0, "a"))
    events: list[Event] = [
        ReasoningRequested(question="q", request_id=request_id),
        RequestFailed(request_id=request_id, failure=RequestFailure.INVALID, message="too old"),
    ]
    now_ms = int(time.time() * 1000)
    await write(
        fresh_database,
        [RecordedEvent(each, f"{i}", flow.key_of(each), "t", 0, i, now_ms, None) for i, each in enumerate(events)],
    )
    reader = Reader(fresh_database)
    story = await RecordView(reader).story(request_id)
    assert story is not None
    assert (story.line.failure, story.message, story.question) == ("invalid", "too old", "q")
    assert await RecordView(reader).story(str(new_request_id())) is None
    await reader.close()


async def test_long_texts_are_cut_in_a_story_and_say_how_long_they_are(fresh_database: str) -> None:
    request_id = str(new_request_id())
    path = changed(made.decoded(made.context(request_id=request_id), 0, 1, "4"), text="x" * 50_000 + "end")
    long = ReasoningRequested(question="q", request_id=request_id), path
    now_ms = int(time.time() * 1000)
    await write(
        fresh_database,
        [RecordedEvent(each, f"{i}", flow.key_of(each), "t", 0, i, now_ms, None) for i, each in enumerate(long)],
    )
    reader = Reader(fresh_database)
    story = await RecordView(reader).story(request_id)
    assert story is not None
    (shown,) = story.steps[0].paths
    assert (len(shown.text), shown.text[-3:], shown.num_chars) == (4_000, "end", 50_003)
    await reader.close()


async def test_the_view_says_what_goes_on(told: tuple[RecordView, list[RecordedEvent]]) -> None:
    view, _ = told
    pulse, choices = await asyncio.gather(view.pulse(), view.choices())
    assert pulse.num_open == 1
    assert "least-to-most" in choices["policy"]


async def test_figures_are_those_of_the_events(
    told: tuple[RecordView, list[RecordedEvent]], fresh_database: str
) -> None:
    view, _ = told
    reader = Reader(fresh_database)
    figures = RecordFigures(reader)
    lines = (await view.requests(Filter())).lines
    policies = {each.policy: each for each in await figures.policies()}
    for name, found in policies.items():
        same = [line for line in lines if line.policy == name and not line.is_open]
        judged = [line.reward for line in same if line.reward is not None]
        assert found.num_requests == len(same)
        assert found.num_said == len(judged)
        assert found.reward == (pytest.approx(sum(judged) / len(judged)) if judged else None)
        assert found.tokens_out == pytest.approx(sum(line.tokens_out or 0 for line in same) / len(same))
        assert found.propensity is None
    assert sum(each.num_said for each in await figures.calibration()) == sum(line.reward is not None for line in lines)
    wrong = {line.request_id for line in lines if line.reward is not None and line.reward < 0.5}
    contradicted = await figures.contradicted()
    assert {key.request_id for key in contradicted} == wrong
    assert [line.request_id for line in await view.lines(contradicted)] == [key.request_id for key in contradicted]
    minutes = await figures.minutes()
    assert sum(each.num_answered for each in minutes) > 0
    assert [each.at for each in minutes] == sorted((each.at for each in minutes), reverse=True)
    stages = {each.name: each for each in await figures.stages()}
    assert stages["a request"].num == sum(not line.is_open for line in lines)
    assert all((each.p50_ms or 0) <= (each.p95_ms or 0) <= (each.p99_ms or 0) for each in stages.values())
    assert await figures.failures() == ()
    accounts = Accounts(fresh_database)
    key = await accounts.create("shop", [Scope.ASK], actor="ann")
    await accounts.change_tenant("shop", actor="bob", is_kept=False)
    await accounts.close()
    audit = await figures.audit()
    assert [(each.kind, each.what, each.action, each.actor) for each in audit[:2]] == [
        ("tenant", "of shop", "tenant", "bob"),
        ("key", f"{key.key_id} of shop", "create", "ann"),
    ]
    assert {each.what for each in audit if each.kind == "policy"} >= {"default@1"}
    await reader.close()


async def test_pages_of_an_empty_record_say_so(fresh_database: str) -> None:
    reader = Reader(fresh_database)
    view, figures = RecordView(reader), RecordFigures(reader)
    assert await view.requests(Filter()) == Page((), False)
    assert await view.choices() == {"policy": (), "arm": ()}
    assert (await view.pulse()).num_open == 0
    for found in (
        figures.policies(),
        figures.calibration(),
        figures.contradicted(),
        figures.minutes(),
        figures.failures(),
        figures.audit(),
    ):
        assert await found == ()
    await reader.close()
