"""The SQL of files and batches on a real server: whose turn it is, what became of each line, and what is kept once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from conclave.domain.recorded import RecordedEvent
from conclave.store.accounts import Accounts
from conclave.store.batches import BatchRow, BatchStore, Claimed, Line, NewBatch
from conclave.store.cancellations import Cancellations
from conclave.store.erasure import erase
from conclave.store.files import FileRow, FileStore, Key, NewFile, OverBytes, Reused
from conclave.store.rows import asked_at
from conclave.store.store import Store
from conclave.testing import events as made
from schemas import flow
from schemas.events import AnswerReached, RequestFailed
from schemas.ids import asked_at_ms, new_request_id
from schemas.values import RequestFailure

_BODY = {"model": "x", "messages": [{"role": "user", "content": "secret"}]}
_HOUR_S, _DAY_S = 3600.0, 86_400.0


@pytest.fixture
async def batches(fresh_database: str) -> AsyncIterator[BatchStore]:
    """A store of batches."""
    store = BatchStore(fresh_database)
    yield store
    await store.close()


@pytest.fixture
async def files(fresh_database: str) -> AsyncIterator[FileStore]:
    """A store of files."""
    store = FileStore(fresh_database)
    yield store
    await store.close()


async def _begun(batches: BatchStore, name: str, tenant: str, window_s: float, num_lines: int) -> None:
    lines = [Line(index, f"{name}-{index}", _BODY) for index in range(num_lines)]
    await batches.add(NewBatch(f"batch_{name}", tenant, "file-a", window_s), lines, max_bytes=99)


async def _asked(batches: BatchStore, claimed: Claimed) -> str:
    request_id = str(new_request_id())
    assert await batches.asked(claimed, request_id, asked_at(request_id)) is None
    return request_id


async def _answered(dsn: str, request_ids: Sequence[str], failed: Sequence[str] = ()) -> None:
    """Records the ends of requests."""
    failure = RequestFailure.NO_ANSWER
    ends: list[AnswerReached | RequestFailed] = [
        *(made.answer("36", request_id=each) for each in request_ids),
        *(RequestFailed(request_id=each, failure=failure, message="no luck") for each in failed),
    ]
    store = Store(dsn)
    try:
        await store.maintain(asked_at_ms(ends[0].request_id))
        recorded = [
            RecordedEvent(
                end, f"{end.request_id} end", end.request_id, flow.topic_of(type(end)).value, 0, at,
                asked_at_ms(end.request_id), None, "",
            )
            for at, end in enumerate(ends)
        ]  # fmt: skip
        await store.write(recorded, {})
    finally:
        await store.close()


async def _let_pass(dsn: str, batch_id: str, seconds: float) -> None:
    """As if so much more of a batch's window had passed."""
    connection = await asyncpg.connect(dsn)
    query = "UPDATE gateway_batches SET deadline_at = deadline_at - make_interval(secs => $2) WHERE batch_id = $1"
    await connection.execute(query, batch_id, seconds)
    await connection.close()


async def _row(batches: BatchStore, batch_id: str) -> BatchRow:
    row = await batches.batch(batch_id)
    assert row is not None
    return row


def _counts(row: BatchRow) -> tuple[int, int, int, int, int]:
    return row.num_answered, row.num_failed, row.num_unasked, row.num_open, row.num_waiting


async def test_the_window_that_ends_first_comes_first_and_no_tenant_waits_for_anothers_flood(
    batches: BatchStore, fresh_database: str
) -> None:
    await _begun(batches, "day", "ours", _DAY_S, 200)
    await _begun(batches, "hour", "ours", _HOUR_S, 3)
    first = await batches.claim(8)
    assert Counter(each.batch_id for each in first) == {"batch_hour": 3, "batch_day": 5}
    assert [(each.batch_id, each.line) for each in first] == [
        *(("batch_hour", line) for line in range(3)), *(("batch_day", line) for line in range(5)),
    ]  # fmt: skip
    assert await batches.claim(8) == [], "there is no room"
    for index in range(5):
        await _begun(batches, f"flood{index}", "flooding", _HOUR_S, 50)
    await _begun(batches, "late", "theirs", _DAY_S, 50)
    # Ours have eight open: the others come until they have as many.
    second = await batches.claim(20)
    assert Counter(each.tenant for each in second) == {"flooding": 6, "theirs": 6}
    requests = [await _asked(batches, each) for each in first]
    await _answered(fresh_database, requests)
    third = await batches.claim(24)
    assert Counter(each.tenant for each in third) == {"flooding": 2, "theirs": 2, "ours": 8}, "eight of each"
    assert {each.batch_id for each in third if each.tenant == "ours"} == {"batch_day"}


async def test_a_line_is_claimed_once_and_again_after_a_while(
    batches: BatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [Line(0, "a", _BODY), Line(1, "b", _BODY), Line(2, "", error="no JSON")]
    batch = NewBatch("batch_a", "ours", "file-a", _HOUR_S, metadata={"run": "7"})
    assert await batches.add(batch, lines, max_bytes=0) == "batch_a"
    claims = await asyncio.gather(*(batches.claim(10) for _ in range(4)))
    claimed = sorted((each for claim in claims for each in claim), key=lambda each: each.line)
    assert [(each.line, each.body, each.tenant, each.is_kept) for each in claimed] == [
        (0, _BODY, "ours", True), (1, _BODY, "ours", True),
    ]  # fmt: skip
    assert 3500 < claimed[0].left_s <= _HOUR_S
    request_id = await _asked(batches, claimed[0])
    await batches.refused(claimed[1], "no such policy")
    await batches.refused(claimed[1], "said twice")
    row = await _row(batches, "batch_a")
    assert (row.num_lines, _counts(row), row.metadata, row.is_over) == (3, (0, 2, 0, 1, 0), {"run": "7"}, False)
    assert [each["error"] for each in await batches.ended("batch_a", first=0, limit=9)] == ["no such policy", "no JSON"]
    assert [each.request_id for each in await batches.cancel("batch_a")] == [request_id]
    await _begun(batches, "b", "ours", _HOUR_S, 2)
    (one,) = await batches.claim(2)
    assert await batches.claim(2) == [], "what is claimed is as good as open"
    await batches.put_back(one)
    assert [each.line for each in await batches.claim(2)] == [one.line]
    monkeypatch.setattr("conclave.store.batches._CLAIM_S", 0.0)
    assert len(await batches.claim(3)) == 2, "a claim that led to nothing ends"
    assert (await batches.forget(1), await batches.forget(-1)) == (0, 2)


async def test_every_line_of_a_batch_whose_window_has_ended_is_told(batches: BatchStore, fresh_database: str) -> None:
    await _begun(batches, "a", "ours", _HOUR_S, 6)
    claimed = await batches.claim(4)
    answered, failed, lost = [await _asked(batches, each) for each in claimed[:3]]
    await _answered(fresh_database, [answered], [failed])
    assert _counts(await _row(batches, "batch_a")) == (1, 1, 0, 2, 2), "one was asked, and one is about to be"
    await _let_pass(fresh_database, "batch_a", _HOUR_S)
    unasked = [None, None, "batch_expired", "batch_expired"]
    assert [each["unasked"] for each in await batches.ended("batch_a", first=0, limit=9)] == unasked
    await batches.put_back(claimed[3])
    assert await batches.claim(4) == []
    row = await _row(batches, "batch_a")
    assert (row.is_over, _counts(row)) == (True, (1, 1, 3, 1, 0)), "what waited was counted"
    assert [each.request_id for each in await batches.cancel("batch_a")] == [lost]
    assert (await _row(batches, "batch_a")).cancelled_at is None, "it was over"
    await _let_pass(fresh_database, "batch_a", 2 * _HOUR_S)
    assert await batches.claim(4) == []
    assert _counts(await _row(batches, "batch_a")) == (1, 1, 4, 0, 0), "an end that has not come by now never does"
    rows = await batches.ended("batch_a", first=0, limit=9)
    assert [each["line"] for each in rows] == list(range(6))
    assert [each["unasked"] for each in rows] == [None, None, *["batch_expired"] * 4]
    assert "secret" not in repr(rows), "what has ended keeps the name of its model"
    assert {each["body"]["model"] for each in rows} == {"x"}


async def test_every_line_of_a_cancelled_batch_is_told(batches: BatchStore, fresh_database: str) -> None:
    await _begun(batches, "a", "ours", _HOUR_S, 4)
    first, second = await batches.claim(2)
    asked = await _asked(batches, first)
    assert [each.request_id for each in await batches.cancel("batch_a")] == [asked]
    assert "secret" not in repr(await batches.ended("batch_a", first=0, limit=9)), "of a body only its model is read"
    late = str(new_request_id())
    unwanted = await batches.asked(second, late, asked_at(late))
    assert unwanted is not None, "nobody wants it any more"
    noted = Cancellations(fresh_database)
    waiting = {each.request_id: each.until_ms - asked_at_ms(each.request_id) for each in await noted.waiting(9)}
    await noted.close()
    assert waiting == {asked: 1000 * _HOUR_S, late: unwanted.until_ms - asked_at_ms(late)}, "whatever dies now"
    assert 1000 * (_HOUR_S - 60) < waiting[late] <= 1000 * _HOUR_S
    await _answered(fresh_database, [asked, late])
    assert await batches.claim(4) == []
    assert _counts(await _row(batches, "batch_a")) == (2, 0, 2, 0, 0)
    rows = await batches.ended("batch_a", first=0, limit=9)
    assert [each["unasked"] for each in rows] == [None, None, "batch_cancelled", "batch_cancelled"]
    await _begun(batches, "b", "ours", _HOUR_S, 1)
    (line,) = await batches.claim(1)
    await _answered(fresh_database, [await _asked(batches, line)])
    await batches.cancel("batch_b")
    row = await _row(batches, "batch_b")
    assert (row.cancelled_at, _counts(row)) == (None, (1, 0, 0, 0, 0)), "it had ended, though nobody had looked"


async def test_what_a_gateway_that_died_may_have_asked_of_a_batch_that_is_cancelled_is_cancelled_too(
    batches: BatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _begun(batches, "a", "ours", _HOUR_S, 3)
    (claimed,) = await batches.claim(1)
    await batches.cancel("batch_a")
    assert await batches.claim(9) == [], "it is somebody's yet"
    monkeypatch.setattr("conclave.store.batches._CLAIM_S", 0.0)
    (again,) = await batches.claim(9)
    assert (again.line, again.body, again.tenant) == (claimed.line, claimed.body, "ours")
    monkeypatch.undo()
    request_id = str(new_request_id())  # the same: a line has a key of its own
    unwanted = await batches.asked(again, request_id, asked_at(request_id))
    assert (unwanted is not None and unwanted.request_id, _counts(await _row(batches, "batch_a"))) == (
        request_id, (0, 0, 2, 1, 0),
    )  # fmt: skip


async def test_lines_know_whether_the_words_of_their_tenant_are_kept(batches: BatchStore, fresh_database: str) -> None:
    accounts = Accounts(fresh_database)
    await _begun(batches, "a", "ours", _HOUR_S, 2)
    assert [each.is_kept for each in await batches.claim(1)] == [True]
    await accounts.change_tenant("ours", actor="ann", is_kept=False)
    await accounts.close()
    assert [each.is_kept for each in await batches.claim(2)] == [False]


async def test_what_is_sent_under_one_key_is_kept_once(batches: BatchStore, files: FileStore) -> None:
    key, other = Key("k", b"d"), Key("k", b"other")
    added = await asyncio.gather(
        *(files.add(NewFile(f"file-{at}", "ours", "a", "x"), key=key, max_bytes=99) for at in range(4))
    )
    assert len({each.file_id for each in added if isinstance(each, FileRow)}) == 1
    assert await files.add(NewFile("file-z", "ours", "a", "y"), key=other, max_bytes=99) == Reused(added[0].file_id)  # type: ignore[union-attr]
    assert isinstance(await files.add(NewFile("file-t", "theirs", "a", "y"), key=other, max_bytes=99), FileRow)
    begun = await asyncio.gather(
        *(
            batches.add(NewBatch(f"batch_{at}", "ours", "file-a", 60.0), [Line(0, "a", _BODY)], key=key, max_bytes=9)
            for at in range(4)
        )
    )
    assert len(set(begun)) == 1
    assert await batches.known("ours", key) == begun[0]
    assert await batches.known("ours", other) == Reused(str(begun[0]))
    assert (await batches.known("theirs", key), await batches.known("ours", None)) == (None, None)
    assert len(await batches.claim(9)) == 1


async def test_files_and_batches_that_run_have_so_many_bytes_together(batches: BatchStore, files: FileStore) -> None:
    file = await files.add(NewFile("file-a", "ours", "a.jsonl", "é\n"), key=None, max_bytes=10)
    assert isinstance(file, FileRow)
    assert (file.num_bytes, await files.file("file-a"), await files.content("file-a")) == (3, file, "é\n")
    lines = [Line(0, "a", _BODY)]
    assert await batches.add(NewBatch("batch_a", "ours", "file-a", 60.0, num_bytes=7), lines, max_bytes=10) == "batch_a"
    over = await files.add(NewFile("file-b", "ours", "b.jsonl", "x"), key=None, max_bytes=10)
    assert over == OverBytes(10, 10)
    assert await batches.add(NewBatch("batch_b", "ours", "file-a", 60.0, num_bytes=1), lines, max_bytes=10) == over
    assert isinstance(await files.add(NewFile("file-t", "theirs", "b.jsonl", "x"), key=None, max_bytes=10), FileRow)
    await batches.cancel("batch_a")
    assert isinstance(await files.add(NewFile("file-b", "ours", "b.jsonl", "x"), key=None, max_bytes=10), FileRow)
    await files.delete("file-a")
    assert (await files.file("file-a"), await files.content("file-a")) == (None, None)
    assert isinstance(await files.add(NewFile("file-c", "ours", "c.jsonl", "x" * 9), key=None, max_bytes=10), FileRow)
    assert (await files.forget(1), await files.forget(-1)) == (0, 3)


async def test_lists_go_on_where_a_page_ended(batches: BatchStore, files: FileStore) -> None:
    for index in range(4):
        await _begun(batches, f"{index}", "ours", _HOUR_S, 1)
        purpose = "batch" if index % 2 else "user_data"
        await files.add(NewFile(f"file-{index}", "ours", "a", "x", purpose), key=None, max_bytes=99)
    await _begun(batches, "other", "theirs", _HOUR_S, 1)
    assert [each.batch_id for each in await batches.batches("ours", 2)] == ["batch_3", "batch_2"]
    assert [each.batch_id for each in await batches.batches("ours", 9, after="batch_2")] == ["batch_1", "batch_0"]
    assert [each.file_id for each in await files.files("ours", 9, after="file-2")] == ["file-1", "file-0"]
    assert [each.file_id for each in await files.files("ours", 2, after="file-0", is_ascending=True)] == [
        "file-1",
        "file-2",
    ]
    assert [(each.file_id, each.purpose) for each in await files.files("ours", 9, purpose="batch")] == [
        ("file-3", "batch"), ("file-1", "batch"),
    ]  # fmt: skip
    assert await files.files("theirs", 9) == []


async def test_a_batch_keeps_what_it_was_called_until_all_that_was_asked_of_it_is_erased(
    batches: BatchStore, files: FileStore, fresh_database: str
) -> None:
    content = "".join(f'{{"custom_id":"{name}","body":"secret"}}\n' for name in "ab")
    await files.add(NewFile("file-a", "ours", "a.jsonl", content), key=None, max_bytes=999)
    lines = [*(Line(at, name, _BODY) for at, name in enumerate("ab")), Line(2, "", error="no JSON")]
    await batches.add(NewBatch("batch_a", "ours", "file-a", _HOUR_S, metadata={"run": "7"}), lines, max_bytes=999)
    requests = [await _asked(batches, each) for each in await batches.claim(9)]
    await _answered(fresh_database, requests)
    assert await batches.claim(9) == [], "what has ended is counted, and asks nothing any more"
    await erase(fresh_database, requests[:1])
    assert (await _row(batches, "batch_a")).metadata == {"run": "7"}
    await erase(fresh_database, requests[1:])
    assert (await _row(batches, "batch_a")).metadata == {}
    file, left = await files.file("file-a"), await files.content("file-a")
    assert file is not None
    assert left is not None
    assert (file.num_bytes, "secret" in left) == (len(left), False)


async def test_a_line_loses_the_words_of_a_request_that_was_erased_before_or_while_the_line_came_to_know_it(
    batches: BatchStore, files: FileStore, fresh_database: str
) -> None:
    names = [f"l{at}" for at in range(12)]
    content = "".join(f'{{"custom_id":"{name}","body":"secret"}}\n' for name in names)
    await files.add(NewFile("file-a", "ours", "a.jsonl", content), key=None, max_bytes=9_999)
    lines = [Line(at, name, _BODY) for at, name in enumerate(names)]
    await batches.add(NewBatch("batch_a", "ours", "file-a", _HOUR_S), lines, max_bytes=9_999)
    first, *others = await batches.claim(99)
    await erase(fresh_database, [before := str(new_request_id())])
    assert await batches.asked(first, before, asked_at(before)) is None
    for line in others:
        meanwhile = str(new_request_id())
        await asyncio.gather(batches.asked(line, meanwhile, asked_at(meanwhile)), erase(fresh_database, [meanwhile]))
    connection = await asyncpg.connect(fresh_database)
    bodies = await connection.fetch("SELECT body::text FROM gateway_batch_lines ORDER BY line")
    await connection.close()
    assert [row["body"] for row in bodies] == ['{"model": "x"}'] * 12
    left = await files.content("file-a") or ""
    assert ("secret" in left, left.count("erased")) == (False, 12)
