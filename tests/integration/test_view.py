"""What pages read, on a real server: stories and lists as the services left them, filters and paging."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace as changed
from starlette.applications import Starlette

from conclave.domain.api_keys import Scope
from conclave.domain.recorded import RecordedEvent
from conclave.store import listing
from conclave.store.accounts import Accounts
from conclave.store.figures import EngineUse, RecordFigures
from conclave.store.ledger import Entry, Ledger, Limits
from conclave.store.letter_replays import NOT_REPLAYED, REPLAYED, LetterReplays
from conclave.store.listing import Filter, Key
from conclave.store.reader import Reader
from conclave.store.store import Store
from conclave.store.tenant_view import TenantView
from conclave.store.trace import RequestLine
from conclave.store.view import Page, RecordView
from conclave.testing import events as made
from schemas import flow
from schemas.events import Event, PathDecoded, PlanMade, ReasoningRequested, RequestFailed
from schemas.ids import derived_request_id, new_request_id
from schemas.values import RequestFailure
from services.gateway.pages import tenant_routes
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


async def _paged(view: RecordView, wanted: Filter, limit: int) -> list[RequestLine]:
    """All lines of a list, a page after the other."""
    page = await view.requests(wanted, limit=limit)
    lines = [*page.lines]
    while page.oldest is not None:
        page = await view.requests(wanted, before=page.oldest, limit=limit)
        lines += page.lines
    return lines


async def test_pages_of_a_list_hold_every_request_once(told: tuple[RecordView, list[RecordedEvent]]) -> None:
    view, _ = told
    seen = [line.request_id for line in await _paged(view, Filter(), 7)]
    assert len(seen) == len(set(seen)) == NUM_REQUESTS
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("text", ["has", "dollars"])
async def test_pages_of_a_search_hold_every_find_once_whether_many_are_found_at_once_or_few(
    told: tuple[RecordView, list[RecordedEvent]], text: str
) -> None:
    view, _ = told
    expected = [line.request_id for line in (await view.requests(Filter(text=text))).lines]
    assert len(expected) > 4
    assert [line.request_id for line in await _paged(view, Filter(text=text), 2)] == expected


FILTERS: list[tuple[Filter, Any]] = [
    (Filter(policy="default"), lambda line: line.policy == "default"),
    (Filter(arm="default"), lambda line: not line.is_open),
    (Filter(outcome="open"), lambda line: line.is_open),
    (Filter(outcome="open", policy="sure"), lambda line: line.is_open and line.policy == "sure"),
    (Filter(outcome="open", max_agreement=1.0), lambda line: False),
    (Filter(outcome="open", max_confidence=1.0), lambda line: False),
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


@pytest.mark.parametrize("num_lately", [4_000, 2])  # of a tenant's latest, before all are looked at
async def test_requests_are_found_by_the_tenant_that_asked_them_and_say_it(
    told: tuple[RecordView, list[RecordedEvent]],
    fresh_database: str,
    monkeypatch: pytest.MonkeyPatch,
    num_lately: int,
) -> None:
    view, _ = told
    for name in ("_LATELY", "_LATELY_WITH_WORDS"):
        monkeypatch.setattr(listing, name, num_lately)
    everything = (await view.requests(Filter())).lines
    assert {line.tenant for line in everything} == {None}
    ledger = Ledger(fresh_database)
    owners = {line.request_id: ("shop", "lab")[number % 3 == 0] for number, line in enumerate(everything) if number % 4}
    for request_id, tenant in owners.items():
        await ledger.enter(Entry(request_id, tenant, b"", 60.0), Limits())
    await ledger.close()
    for tenant in ("shop", "lab", "nobody"):
        for wanted, is_meant in [
            (Filter(), lambda line: True),
            (Filter(text="has"), lambda line: " has " in line.question),
            *FILTERS,
        ]:
            expected = [
                each.request_id for each in everything if owners.get(each.request_id) == tenant and is_meant(each)
            ]
            for limit in (50, 3):
                found = await _paged(view, dataclasses.replace(wanted, tenant=tenant), limit)
                assert [line.request_id for line in found] == expected, (tenant, wanted, limit)
                assert {line.tenant for line in found} <= {tenant}
    assert (await view.choices())["tenant"] == ("lab", "shop")


async def test_a_tenant_sees_what_it_asked_itself_and_of_anything_else_nothing(
    told: tuple[RecordView, list[RecordedEvent]], fresh_database: str
) -> None:
    view, _ = told
    everything = (await view.requests(Filter())).lines
    ledger, reader = Ledger(fresh_database), Reader(fresh_database)
    owners = {line.request_id: ("shop", "lab")[number % 2] for number, line in enumerate(everything) if number % 5}
    for request_id, tenant in owners.items():
        await ledger.enter(Entry(request_id, tenant, b"", 60.0), Limits())
    unrecorded = str(new_request_id())
    await ledger.enter(Entry(unrecorded, "shop", b"", 60.0), Limits())
    keys = [Key(line.asked_at, line.request_id) for line in everything]
    for tenant in ("shop", "lab", "nobody"):
        own = TenantView(reader, tenant)
        expected = [line.request_id for line in everything if owners.get(line.request_id) == tenant]
        for wanted in (Filter(), Filter(tenant="lab"), Filter(tenant="shop")):
            assert [line.request_id for line in (await own.requests(wanted)).lines] == expected, "whatever it names"
        assert [line.request_id for line in await own.lines(keys)] == expected
        for line in everything:
            story, raw, is_own = (
                await own.story(line.request_id),
                await own.raw(line.request_id),
                line.request_id in expected,
            )
            assert (story is not None, bool(raw), await own.owns(line.request_id)) == (is_own, is_own, is_own)
            assert "correlation" not in raw
        policies = {line.policy for line in everything if line.request_id in expected and not line.is_open}
        arms = ("default",) * bool(expected)
        assert await own.choices() == {"policy": tuple(sorted(filter(None, policies))), "arm": arms, "tenant": ()}
        assert await own.owns(unrecorded) is (tenant == "shop")
        app = Starlette(routes=tenant_routes(reader, tenant))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://testserver") as pages:
            for line in (everything[1], everything[2]):
                is_own = line.request_id in expected
                for path in ("", ".json", "/body"):
                    assert (await pages.get(f"/requests/{line.request_id}{path}")).status_code == (
                        200 if is_own else 404
                    )
            assert (await pages.get(f"/requests/{unrecorded}")).status_code == (200 if tenant == "shop" else 404)
            both = {"id": [everything[1].request_id, everything[2].request_id]}
            compared = (await pages.get("/compare", params=both)).text
            assert "Two requests side by side" not in compared
            listed = (await pages.get("/requests", params={"tenant": "lab"})).text
            assert sum(f'id="r-{line.request_id}"' in listed for line in everything) == len(expected)
    await ledger.close()
    await reader.close()


async def test_who_replays_a_dead_letter_is_among_the_changes(fresh_database: str) -> None:
    replays, reader = LetterReplays(fresh_database), Reader(fresh_database)
    await replays.note("reasoning.paths.dead-letters/0/1", actor="ann", reason="schema")
    await replays.note("reasoning.paths.dead-letters/0/2", actor="bob", reason="handler")
    await replays.note("reasoning.paths.dead-letters/0/1", actor="ann", reason="schema", action=NOT_REPLAYED)
    found = await replays.latest([f"reasoning.paths.dead-letters/0/{offset}" for offset in range(4)])
    assert {letter_id: (each.actor, each.action) for letter_id, each in found.items()} == {
        "reasoning.paths.dead-letters/0/1": ("ann", NOT_REPLAYED),
        "reasoning.paths.dead-letters/0/2": ("bob", REPLAYED),
    }
    audit = [each for each in await RecordFigures(reader).audit() if each.kind == "dead letter"]
    assert [(each.what[-1], each.action, each.actor, each.why) for each in audit][-1] == (
        "1",
        "replay",
        "ann",
        "schema",
    )
    assert len(audit) == 3
    await replays.close()
    await reader.close()


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


async def test_an_answer_that_was_given_again_says_whose_it_was(fresh_database: str) -> None:
    first, again = str(new_request_id()), str(new_request_id())
    plan = changed(made.plan(), request_id=again, recalled_from=first)
    now_ms = int(time.time() * 1000)
    await write(fresh_database, [RecordedEvent(plan, "1", flow.key_of(plan), "t", 0, 0, now_ms, None)])
    reader = Reader(fresh_database)
    assert await RecordView(reader).story(again) is None, "its request is still to be recorded"
    asked = ReasoningRequested(question="q", request_id=again)
    await write(fresh_database, [RecordedEvent(asked, "0", flow.key_of(asked), "t", 0, 1, now_ms, None)])
    story = await RecordView(reader).story(again)
    assert story is not None
    assert story.plan is not None
    assert story.plan.recalled_from == first
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
    view, events = told
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
    (engine,) = await figures.engines()
    assert (engine.engine, engine.model) == ("vllm", "reasoner")
    first = _request_of(events[0])  # it was asked an hour ago, just about
    within = [[each for each in events if first != _request_of(each)], events]
    assert _used(engine) in [pytest.approx(_spent(each)) for each in within]
    reuse = await figures.reuse()
    planned = [sum(isinstance(each.event, PlanMade) for each in some) for some in within]
    assert reuse.num_planned in planned
    assert (reuse.num_recalled, reuse.share) == (0, 0.0)
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


def _request_of(each: RecordedEvent) -> str:
    event = each.event
    return str(event.context.request_id if isinstance(event, PathDecoded) else getattr(event, "request_id", ""))


def _used(engine: EngineUse) -> tuple[float, ...]:
    assert engine.cached_share is not None
    tokens = (engine.tokens_in or 0, engine.tokens_out or 0, engine.tokens_cached or 0)
    return (engine.num_paths, *tokens, engine.cached_share, engine.per_minute, engine.num_in_flight)


def _spent(events: list[RecordedEvent]) -> tuple[float, ...]:
    """The same of what was decoded within an hour."""
    paths = [each.event for each in events if isinstance(each.event, PathDecoded)]
    counts = (sum(getattr(each, name) for each in paths) for name in ("tokens_in", "tokens_out", "tokens_cached"))
    tokens_in, tokens_out, cached = counts
    in_flight = sum(each.total_ms - each.queued_ms for each in paths) / 3_600_000
    return (len(paths), tokens_in, tokens_out, cached, cached / tokens_in, len(paths) / 60, in_flight)


async def test_pages_of_an_empty_record_say_so(fresh_database: str) -> None:
    reader = Reader(fresh_database)
    view, figures = RecordView(reader), RecordFigures(reader)
    assert await view.requests(Filter()) == Page((), False)
    assert await view.choices() == {"policy": (), "arm": (), "tenant": ()}
    assert (await view.pulse()).num_open == 0
    for found in (
        figures.policies(),
        figures.calibration(),
        figures.contradicted(),
        figures.minutes(),
        figures.failures(),
        figures.engines(),
        figures.audit(),
    ):
        assert await found == ()
    assert (await figures.reuse()).share is None
    await reader.close()
