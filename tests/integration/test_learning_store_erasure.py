"""What is left of a request that is erased, on a real server: no word."""

import asyncio
import json
from collections.abc import Sequence

import asyncpg
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from sqlalchemy import text

from conclave.cli import group
from conclave.store.erasure import BLANKED, KEPT, erase, erase_with_forks, forks_of, tagged
from conclave.store.rows import TABLES
from conclave.testing import events as made
from schemas.events import Event, PlanMade, ReasoningRequested, TextStored
from schemas.ids import derived_request_id, new_request_id
from schemas.values import Ballot, Fork, TallyRow
from tests.integration.recorded_evidence import OLD_S, evidence_of
from tests.record_of_events import NOW_MS, Recorded


async def test_every_column_that_can_hold_words_is_blanked_or_known_to_hold_none(record: Recorded) -> None:
    query = text("""
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type IN ('text', 'jsonb', 'ARRAY')
    """)
    async with record.learning._reading() as connection:
        found = {(row[0], row[1]) for row in await connection.execute(query)}
    numbers = {("steps", "depends_on")}
    for table in TABLES:
        columns = {column for of, column in found if of == table} - {name for of, name in numbers if of == table}
        assert columns == {*BLANKED.get(table, ()), *KEPT.get(table, ())}, table


# Tables that know requests and are not the record's, and why they may.
BESIDE = {
    "gateway_requests": "whose it is, and digests",
    "gateway_batch_lines": "blanked by conclave.store.erased_lines",
    "review_claims": "who is looking at it, for a day",
    "erased_requests": "that it is erased",
    "gateway_cancellations": "that it is cancelled",
}


async def test_every_table_that_knows_requests_is_blanked_or_known_to_hold_no_words(record: Recorded) -> None:
    query = text("""
        SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE a.attname = 'request_id' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    """)
    async with record.learning._reading() as connection:
        found = set((await connection.execute(query)).scalars())
    assert found == {*TABLES, *BLANKED, *KEPT, *BESIDE}


async def test_nothing_of_what_a_user_wrote_is_left_and_redelivery_does_not_bring_it_back(
    record: Recorded, fresh_database: str
) -> None:
    secret = "S3CR3T"
    kept, kept_id = await record.assigned("a", age_s=OLD_S), str(new_request_id())
    request_id = await record.assigned("a", age_s=OLD_S, unit=secret)
    asked = ReasoningRequested(question=secret, request_id=request_id, tags={"user": secret})
    context = made.context(request_id=request_id, fields={"question": secret}, why=secret, mark=secret)
    path = replace(made.decoded(context, 0, 16, secret), text=secret, reasoning=secret)
    ballots = (Ballot(sample_index=0, answer=secret),)
    tally = (TallyRow(answer=secret, votes=1, weight=1.0),)
    events: list[Event] = [
        asked,
        path,
        TextStored(request_id=request_id, digest="0" * 64, chunk_index=0, text=secret),
        made.verdict(request_id=request_id, answer=secret, ballots=ballots, tally=tally),
        made.answer(secret, request_id=request_id, tally=tally),
    ]
    for event in events:
        await record.put(event)
    await record.judged(
        request_id,
        1.0,
        event_id="opinion",
        source=secret,
        comment=secret,
        right_answer=secret,
        chosen=secret,
        rejected=secret,
    )
    await _keep_batch(fresh_database, request_id, kept_id, secret)
    before = await evidence_of(record)
    assert secret in await _all_that_is_stored(record)
    assert await tagged(fresh_database, "user", secret) == [request_id]
    assert await erase(fresh_database, [request_id]) > 10
    for event in events:
        await record.put(event)
    left = await _all_that_is_stored(record)
    assert secret not in left
    assert left.count("K3PT") == 4, "the other line, in its batch and in the file"
    assert await evidence_of(record) == before
    assert {each.unit for each in await record.learning.assignments("trial")} == {kept, None}
    assert await tagged(fresh_database, "user", secret) == []
    assert await erase(fresh_database, []) == 0


async def _keep_batch(dsn: str, erased: str, other: str, secret: str) -> None:
    """A file of two lines and its batch, one of whose lines is what the erased request was asked with."""
    lines = [
        {"custom_id": name, "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": "conclave", "messages": [{"role": "user", "content": words}], "metadata": {"user": words}}}
        for name, words in (("other", "K3PT"), ("theirs", secret))
    ]  # fmt: skip
    content = "".join(f"{json.dumps(line)}\n" for line in lines)
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "INSERT INTO gateway_files (file_id, tenant, filename, content) VALUES ('f', 't', 'asked.jsonl', $1)", content
    )
    await connection.execute("""
        INSERT INTO gateway_batches (batch_id, tenant, file_id, window_s, is_redacted, metadata, deadline_at)
        VALUES ('b', 't', 'f', 3600, true, '{}', now() + interval '1 hour')
    """)
    for number, (line, request_id) in enumerate(zip(lines, (other, erased), strict=True)):
        await connection.execute(
            "INSERT INTO gateway_batch_lines (batch_id, line, custom_id, body, request_id, asked_at) "
            "VALUES ('b', $1, $2, $3, $4, now())",
            number, line["custom_id"], json.dumps(line["body"]), request_id,
        )  # fmt: skip
    await connection.close()


async def _all_that_is_stored(record: Recorded) -> str:
    """Every row of every table that the database has, as text."""
    tables = text("""
        SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables
        WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE' ORDER BY 1
    """)
    found = []
    async with record.learning._reading() as connection:
        for table in (await connection.execute(tables)).scalars().all():
            found += [str(row) for row in (await connection.execute(text(f"SELECT t::text FROM {table} t"))).scalars()]
    return "\n".join(found)


async def test_the_forks_of_a_request_and_the_forks_of_those_are_erased_with_it(
    record: Recorded, fresh_database: str
) -> None:
    first, fork, of_fork, other, other_s = (str(derived_request_id(NOW_MS + at, str(at))) for at in range(5))
    for request_id, of in ((first, ""), (fork, first), (of_fork, fork), (other, ""), (other_s, other)):
        forked = {"forked from": f"{of}, 1 steps kept"} if of else {}
        await record.put(ReasoningRequested(question=f"C4N4RY {request_id}", request_id=request_id))
        await record.put(replace(made.plan(), request_id=request_id, reasons=forked))
    assert await forks_of(fresh_database, [first]) == [of_fork, fork], "the last first"
    assert await forks_of(fresh_database, [first, fork]) == [of_fork], "and what was given is no find"
    assert await forks_of(fresh_database, [other_s]) == []
    told = await asyncio.to_thread(
        CliRunner().invoke, group, ["erase", first, "--yes", "--json"], env={"CONCLAVE_POSTGRES_DSN": fresh_database}
    )
    assert (told.exit_code, json.loads(told.output)["requests"]) == (0, 3)
    async with record.learning._reading() as connection:
        left = (await connection.execute(text("SELECT question FROM request_payloads WHERE question <> ''"))).scalars()
        assert sorted(left) == sorted(f"C4N4RY {each}" for each in (other, other_s))


async def test_a_fork_that_is_recorded_while_its_request_is_erased_is_erased_too(
    record: Recorded, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, late = (str(derived_request_id(NOW_MS + at, str(at))) for at in range(2))
    await record.put(ReasoningRequested(question="C4N4RY", request_id=first))

    async def erasing(dsn: str, request_ids: Sequence[str]) -> int:
        if first in request_ids:
            await record.put(ReasoningRequested(question="C4N4RY", request_id=late))
            await record.put(replace(made.plan(), request_id=late, reasons={"forked from": f"{first}, 0 steps kept"}))
        return await erase(dsn, request_ids)

    monkeypatch.setattr("conclave.store.erasure.erase", erasing)
    assert (await erase_with_forks(fresh_database, [first]))[0] == 2
    async with record.learning._reading() as connection:
        assert set((await connection.execute(text("SELECT question FROM request_payloads"))).scalars()) == {""}


def _forked(request_id: str, of: str) -> list[Event]:
    """All that comes of a fork, as the log may hand it over: its paths before what they are of."""
    context = made.context(request_id=request_id, fields={"question": "C4N4RY"}, deadline_ms=0)
    return [
        replace(made.decoded(context, 0, 16, "C4N4RY"), text="C4N4RY"),
        ReasoningRequested(question="C4N4RY", request_id=request_id, fork=Fork(request_id=of)),
        replace(made.plan(), request_id=request_id, reasons={"forked from": f"{of}, 0 steps kept"}),
        made.answer("C4N4RY", request_id=request_id),
    ]


@pytest.mark.parametrize("told_by", [(ReasoningRequested, PlanMade), (PlanMade,), (ReasoningRequested,)])
async def test_a_fork_that_is_recorded_when_its_request_has_been_erased_is_erased_as_it_comes(
    record: Recorded, fresh_database: str, told_by: tuple[type[Event], ...]
) -> None:
    first, fork, of_fork, other = (str(derived_request_id(NOW_MS + at, str(at))) for at in range(4))
    await record.put(ReasoningRequested(question="C4N4RY", request_id=first))
    assert (await erase_with_forks(fresh_database, [first]))[0] == 1
    for request_id, of in ((of_fork, fork), (fork, first)):
        for event in _forked(request_id, of):
            if request_id != fork or not isinstance(event, ReasoningRequested | PlanMade) or isinstance(event, told_by):
                await record.put(event)
    await record.put(ReasoningRequested(question="K3PT", request_id=other, fork=Fork(request_id=new_request_id())))
    stored = await _all_that_is_stored(record)
    assert "K3PT" in stored
    assert "C4N4RY" not in stored
    assert stored.count(fork) > 3, "its figures are there"
