"""What is left of a request that is erased, on a real server: no word."""

from msgspec.structs import replace
from sqlalchemy import text

from conclave.store.erasure import BLANKED, KEPT, erase, tagged
from conclave.store.rows import TABLES
from conclave.testing import events as made
from schemas.events import Event, ReasoningRequested, TextStored
from schemas.values import Ballot, TallyRow
from tests.integration.recorded_evidence import OLD_S, evidence_of
from tests.record_of_events import Recorded


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


async def test_nothing_of_what_a_user_wrote_is_left_and_redelivery_does_not_bring_it_back(
    record: Recorded, fresh_database: str
) -> None:
    secret = "S3CR3T"
    kept = await record.assigned("a", age_s=OLD_S)
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
    before = await evidence_of(record)
    assert secret in await _all_that_is_stored(record)
    assert await tagged(fresh_database, "user", secret) == [request_id]
    assert await erase(fresh_database, [request_id]) > 10
    for event in events:
        await record.put(event)
    assert secret not in await _all_that_is_stored(record)
    assert await evidence_of(record) == before
    assert {each.unit for each in await record.learning.assignments("trial")} == {kept, None}
    assert await tagged(fresh_database, "user", secret) == []
    assert await erase(fresh_database, []) == 0


async def _all_that_is_stored(record: Recorded) -> str:
    """Every row of every table of the record, as text."""
    found = []
    async with record.learning._reading() as connection:
        for table in TABLES:
            found += [str(tuple(row)) for row in await connection.execute(text(f"SELECT * FROM {table}"))]
    return "\n".join(found)
