"""What is taken out of rows whose words are not kept: all that erasing blanks, and the ids that clients choose."""

import pytest

from conclave.store.bare import bared, request_ids
from conclave.store.erasure import BLANKED, KEPT
from conclave.store.rows import SHARED_TABLES, TABLES, Row, Rows
from schemas.ids import derived_request_id

BARE, OTHER = derived_request_id(1_795_470_000_000, "bare"), derived_request_id(1_795_470_000_000, "other")
SECRET = "S3CR3T"
# Of what erasing keeps since it is part of a key: clients choose it, so that it may be words.
CHOSEN = {
    "feedback": {"event_id", "event_source", "supersedes"},
    "feedback_payloads": {"event_id", "event_source"},
    "approvals": {"event_id", "event_source"},
}


def _row(table: str, request_id: str, text: object = SECRET) -> Row:
    """A row that says the secret wherever it can."""
    return (request_id, *(text for _ in TABLES[table][1:]))


@pytest.mark.parametrize("table", TABLES)
def test_no_column_that_may_hold_words_keeps_any(table: str) -> None:
    rows: Rows = {table: [_row(table, BARE), _row(table, OTHER)]}
    bare, other = bared(rows, {BARE})[table]
    said = {name for name, value in zip(TABLES[table], bare, strict=True) if value == SECRET}
    assert said == set(TABLES[table][1:]) - set(BLANKED.get(table, ())) - CHOSEN.get(table, set())
    assert {"asked_at"} <= said
    assert set(KEPT.get(table, ())) - CHOSEN.get(table, set()) <= said
    assert other == _row(table, OTHER), "another request's row is as it was"
    assert SECRET not in str([value for name, value in zip(TABLES[table], bare, strict=True) if name not in said])


def test_what_is_part_of_a_key_stays_one_thing_within_a_request() -> None:
    texts = ("a", "b", "a", None)
    rows: Rows = {"feedback": [_row("feedback", BARE, text) for text in texts]}
    at = TABLES["feedback"].index("event_id")
    first, second, third, nothing = (row[at] for row in bared(rows, {BARE})["feedback"])
    assert first == third != second
    assert nothing is None
    (elsewhere,) = bared({"feedback": [_row("feedback", OTHER, "a")]}, {OTHER})["feedback"]
    assert elsewhere[at] != first, "who said it can't be told from another request's"


def test_rows_of_no_request_are_left_alone() -> None:
    rows: Rows = {table: [(SECRET,) * len(columns)] for table, columns in SHARED_TABLES.items()}
    assert request_ids(rows) == set()
    assert bared(rows, {SECRET}) == rows
    assert bared(rows, set()) is rows
