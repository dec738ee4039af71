"""What is looked up in the database while requests are thought about: remembered answers, and documents."""

import asyncio
import time
from typing import Any

import pytest
from msgspec.structs import replace

from conclave.domain.recall import Remembered
from conclave.errors import LostDependency
from conclave.store.documents import Documents
from conclave.store.recollection import Recollection
from conclave.store.store import Store
from conclave.testing import events as made
from schemas.events import Event, FeedbackGiven, ReasoningRequested, RequestFailed
from schemas.ids import new_request_id
from schemas.values import Fingerprint, RequestFailure
from tests.integration.recorded_events import POLICY, recorded


async def test_documents_are_looked_up_by_all_words_else_by_any_and_what_is_away_is_an_observation(
    fresh_database: str,
) -> None:
    documents = Documents(fresh_database)
    try:
        assert (
            await documents.put("handbook", "Chairs may be returned within 30 days.\n\n" + "Other. " * 400, "english")
            > 1
        )
        assert await documents.put("prices", "A chair costs 40 dollars, a table 90.", "english") == 1
        assert (await documents.look_up("returning chairs")).startswith("[handbook] Chairs may be returned")
        found = (await documents.look_up("table refund")).splitlines()
        assert found == ["[prices] A chair costs 40 dollars, a table 90."]
        assert await documents.look_up("zebra") == "nothing is found; other words may be"
        assert (await documents.look_up(" \0")).startswith("error: ")
        for hostile in ("' OR 1=1 --", "a & | ! b", '"', "\ud800", "x" * 100_000, "chair <-> (", ":*"):
            assert isinstance(await documents.look_up(hostile), str)
        assert await documents.put("prices", "Nothing left.", "english") == 1
        assert [row[:2] for row in await documents.listed()] == [("handbook", 4), ("prices", 1)]
        assert await documents.remove("prices")
        assert not await documents.remove("prices")
    finally:
        await documents.close()
    away = Documents("postgresql://nobody@127.0.0.1:1/none")
    assert await away.look_up("chairs") == "error: the documents are away just now"
    await away.close()


def _answered(request: str, key: str, answer: str, *, recalled_from: str | None = None) -> list[Event]:
    found_by = Fingerprint(key=key, gist=f"gist of {key}", tenant="acme") if recalled_from is None else None
    plan = replace(made.plan(of=POLICY), request_id=request, deadline_ms=int(time.time() * 1000), fingerprint=found_by)
    verdict = made.verdict(answer=answer, request_id=request, agreement=0.75)
    given = made.answer(answer, request_id=request, tokens_out=70, recalled_from=recalled_from)
    asked = ReasoningRequested(question="q?", request_id=request)
    return [asked, replace(plan, recalled_from=recalled_from), verdict, given]


async def _newest(memory: Recollection, *keys: str, by_gist: bool = False) -> dict[str, Remembered]:
    return await memory.newest(keys, by_gist=by_gist, oldest_ms=int(time.time() * 1000) - 86_400_000)


async def test_the_newest_answer_is_found_by_key_and_by_gist(store: Store, fresh_database: str) -> None:
    requests = [str(new_request_id()) for _ in range(3)]
    events = [*_answered(requests[0], "k", "1"), *_answered(requests[1], "k", "2"), *_answered(requests[2], "l", "3")]
    events.append(RequestFailed(request_id=str(new_request_id()), failure=RequestFailure.NO_ANSWER, message="m"))
    for offset, event in enumerate(events):
        await store.write([recorded(event, offset)], {})
        await asyncio.sleep(0.002)
    memory = Recollection(fresh_database)
    found = await _newest(memory, "k", "m")
    assert list(found) == ["k"]
    assert (found["k"].request_id, found["k"].answer, found["k"].agreement) == (requests[1], "2", 0.75)
    assert (found["k"].tally, found["k"].tokens_out, found["k"].is_disliked) == (made.answer("2").tally, 70, False)
    assert abs(found["k"].answered_ms - time.time() * 1000) < 60_000
    assert (await _newest(memory, "gist of l", by_gist=True))["gist of l"].key == "l"
    assert await memory.newest(["k"], by_gist=False, oldest_ms=int(time.time() * 1000) + 86_400_000) == {}
    await memory.close()


async def test_feedback_on_an_answer_or_on_one_recalled_from_it_counts(store: Store, fresh_database: str) -> None:
    said: list[tuple[dict[str, Any], bool]] = [
        ({"reward": 1.0}, False),
        ({"reward": 0.0}, True),
        ({"right_answer": "1.0"}, False),
        ({"right_answer": "2"}, True),
    ]
    events: list[Event] = []
    expected: dict[str, tuple[str, bool, float | None]] = {}
    against: set[str] = set()
    for number, (given, is_disliked) in enumerate(said * 2):
        first, second = str(new_request_id()), str(new_request_id())
        spoken_of = second if number >= len(said) else first
        events += [*_answered(first, f"k{number}", "1"), *_answered(second, "", "1", recalled_from=first)]
        events.append(FeedbackGiven(request_id=spoken_of, source="ann", **given))
        expected[f"k{number}"] = first, is_disliked, given.get("reward")
        against |= {first} if is_disliked or "right_answer" in given else set()
    await store.write([recorded(event, offset) for offset, event in enumerate(events)], {})
    memory = Recollection(fresh_database)
    found = await _newest(memory, *expected)
    assert {key: (each.request_id, each.is_disliked, each.liking) for key, each in found.items()} == expected
    since_ms = int(time.time() * 1000) - 60_000
    assert await memory.spoken_against(since_ms) == against
    assert await memory.spoken_against(since_ms + 120_000) == set()
    await memory.close()


async def test_memory_of_a_database_that_is_away_says_so() -> None:
    memory = Recollection("postgresql://nobody@127.0.0.1:9/nothing")
    with pytest.raises(LostDependency):
        await _newest(memory, "k")
    await memory.close()
