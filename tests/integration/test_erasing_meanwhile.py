"""Erasing beside recorders at their full rate: exact whatever is under way, in small transactions, and no sum changes."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import event, text

from conclave.domain.recorded import RecordedEvent
from conclave.errors import LostDependency
from conclave.store import erasure
from conclave.store.connection import make_engine
from conclave.store.erasure import BLANKED, erase, tagged
from conclave.store.roll_ups import ROLLED, RollUps
from conclave.store.store import Store
from conclave.testing import events as made
from schemas import flow
from schemas.events import Event, FeedbackGiven, ReasoningRequested
from schemas.experiments import Assignment
from schemas.ids import derived_request_id
from schemas.values import Ballot, TallyRow
from tests.record_of_events import NOW_MS, Recorded

CANARY, KEPT = "C4N4RY", "K3PT"
NUM_REQUESTS = 120


def happened(number: int, word: str) -> tuple[str, list[Event]]:
    """The id of a request, and all that came of it, which says a word wherever it can."""
    request_id = str(derived_request_id(NOW_MS - 1000 + number, f"request {number}"))
    context = made.context(request_id=request_id, fields={"question": word}, why=word, mark=word)
    tally, ballots = (TallyRow(answer=word, votes=1, weight=1.0),), (Ballot(sample_index=0, answer=word),)
    assignment = Assignment(experiment="trial", revision=1, unit=word, draw=number)
    return request_id, [
        ReasoningRequested(question=word, request_id=request_id, tags={"user": word}),
        replace(made.plan(), request_id=request_id, arm="a", assignment=assignment),
        *(replace(made.decoded(context, index, 16, word), text=word) for index in range(4)),
        made.verdict(request_id=request_id, answer=word, ballots=ballots, tally=tally),
        made.answer(word, request_id=request_id, tally=tally),
        FeedbackGiven(request_id=request_id, reward=0.5, comment=word, source=word),
    ]


def lying_in_the_log(events: list[Event]) -> list[RecordedEvent]:
    return [
        RecordedEvent(each, f"e{place}", flow.subject_of(each), "t", 0, place, NOW_MS, None)
        for place, each in enumerate(events)
    ]


async def rows(record: Recorded, query: str) -> list[tuple[object, ...]]:
    async with record.learning._reading() as connection:
        return sorted(map(tuple, (await connection.execute(text(query))).all()), key=repr)


async def holding(record: Recorded, word: str) -> set[str]:
    """The tables in which some row says the word."""
    found = set()
    for table in BLANKED:
        query = f"SELECT count(*) FROM {table} t WHERE strpos(t::text, '{word}') > 0"
        if (await rows(record, query))[0][0]:
            found.add(table)
    return found


async def test_nothing_is_left_of_whom_is_erased_while_it_is_being_recorded(
    record: Recorded, fresh_database: str
) -> None:
    theirs = dict(happened(number, CANARY) for number in range(0, NUM_REQUESTS, 2))
    others = dict(happened(number, KEPT) for number in range(1, NUM_REQUESTS, 2))
    events = lying_in_the_log([each for listed in (theirs | others).values() for each in listed])
    random.Random(14).shuffle(events)
    sums, is_written = RollUps(fresh_database), asyncio.Event()

    async def write() -> None:
        for start in range(0, len(events), 12):
            await record.store.write(events[start : start + 12], {})
        is_written.set()

    async def add_up() -> None:
        while not is_written.is_set():
            await sums.refresh()

    async def forget() -> None:
        while not await rows(record, "SELECT 1 FROM answers LIMIT 1"):
            await asyncio.sleep(0)
        await erase(fresh_database, list(theirs), at_once=7)
        assert not is_written.is_set(), "it was to be erased while it is recorded"

    async with asyncio.TaskGroup() as tasks:
        for work in (write, add_up, forget):
            tasks.create_task(work(), name=work.__name__)
    assert await holding(record, CANARY) == set()
    assert {"plans", "paths", "path_payloads", "feedback", "answers"} <= await holding(record, KEPT)
    counted = "SELECT (SELECT count(*) FROM paths), (SELECT count(*) FROM answers), (SELECT count(*) FROM feedback)"
    assert await rows(record, counted) == [(4 * NUM_REQUESTS, NUM_REQUESTS, NUM_REQUESTS)]
    for name in ROLLED:
        assert await rows(record, f"SELECT * FROM {name}") == await rows(record, f"SELECT * FROM rolled.{name}_counted")
    await sums.close()


async def test_a_batch_that_had_not_seen_the_note_is_waited_for(
    record: Recorded, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id, events = happened(1, CANARY)
    other, asked, go_on = Store(fresh_database), asyncio.Event(), asyncio.Event()
    await other.claim([("t", 0)])
    insert = Store._insert

    async def slowly(self: Store, *arguments: object) -> int:
        asked.set()
        await go_on.wait()
        return await insert(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "_insert", slowly)
    writing = asyncio.create_task(other.write(lying_in_the_log(events), {}))
    await asked.wait()  # whether words are kept was asked, and said so
    with monkeypatch.context() as impatient:
        impatient.setattr(erasure, "_PATIENCE_S", 0.05)
        with pytest.raises(LostDependency, match="erase again"):
            await erase(fresh_database, [request_id])
    erasing = asyncio.create_task(erase(fresh_database, [request_id]))
    go_on.set()
    await asyncio.gather(writing, erasing)
    assert await holding(record, CANARY) == set()
    await other.close()


async def test_no_transaction_holds_rows_of_more_requests_than_are_erased_at_once(
    record: Recorded, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [happened(number, CANARY) for number in range(10)]
    await record.store.write(lying_in_the_log([each for _, listed in found for each in listed]), {})
    units, held = [], list[int]()

    def watched(dsn: str, **options: Any) -> object:
        engine = make_engine(dsn, **options)
        event.listen(engine.sync_engine, "after_cursor_execute", noted)
        return engine

    noted: Callable[..., None]

    def noted(_connection: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:  # type: ignore[no-redef]
        if statement.startswith("UPDATE path_payloads"):
            held.append(len(next(each for each in parameters if isinstance(each, list))))

    monkeypatch.setattr(erasure, "make_engine", watched)
    assert await tagged(fresh_database, "user", CANARY) == sorted(request_id for request_id, _ in found)
    await erase(fresh_database, [request_id for request_id, _ in found], at_once=4)
    assert held == [8, 8, 4], "each request with its shadow's copy"
    units = await rows(record, "SELECT DISTINCT unit FROM plans")
    assert len(units) == 1, "one unit stays one"
    await erase(fresh_database, [request_id for request_id, _ in found])
    assert await rows(record, "SELECT DISTINCT unit FROM plans") == units, "and does so when it is erased again"
