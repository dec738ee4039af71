"""Events as rows of the record."""

from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from msgspec.structs import replace

from conclave.domain.recorded import RecordedEvent
from conclave.store.rows import TABLES, moment, rows_of
from conclave.testing import events as made
from schemas.events import Event, FeedbackGiven, ReasoningRequested, RequestFailed
from schemas.ids import derived_request_id
from schemas.values import Ballot, Call, RequestFailure, TallyRow, Turn

DAY_MS = 86_400_000


def test_a_ballot_is_recorded_with_the_answer_that_it_counts_for() -> None:
    answers = ["0.48", "12/25", None, "...", "12/25 "]
    rows = [0, 0, None, None, 7]  # the last as a forged verdict may have it
    ballots = [Ballot(sample_index=i, answer=answers[i], tally_row=rows[i]) for i in range(5)]
    verdict = replace(made.verdict(), tally=(TallyRow(answer="0.48", votes=2, weight=2.0),), ballots=tuple(ballots))
    recorded = rows_of([RecordedEvent(verdict, "event", "key", "topic", 0, 0, made.NOW_MS, None)])
    column = TABLES["ballots"].index("answer")
    assert [row[column] for row in recorded["ballots"]] == ["0.48", "0.48", None, "...", "12/25 "]


def _recorded(event: Event, **changes: Any) -> RecordedEvent:
    recorded = RecordedEvent(event, "event", made.REQUEST_ID, "topic", 0, 0, made.NOW_MS, None)
    return replace(recorded, **changes)


def _json_column(event: Event, table: str, column: str) -> Any:
    (row,) = rows_of([_recorded(event)])[table]
    return msgspec.json.decode(row[TABLES[table].index(column)])


@pytest.mark.parametrize("backslashes", range(5))
def test_the_characters_of_an_escape_are_stored_as_they_are_written(backslashes: int) -> None:  # P01
    text = "\\" * backslashes + "u0000"
    asked = ReasoningRequested(question="q", request_id=made.REQUEST_ID, tags={"note": text})
    assert _json_column(asked, "request_payloads", "tags") == {"note": text}


@given(st.lists(st.sampled_from(["\\", "u0000", "\0", "\\u0000", '"', "a"]), max_size=8).map("".join))
def test_json_keeps_every_text_but_its_nuls(text: str) -> None:
    verdict = replace(made.verdict(), tally=(TallyRow(answer=text, votes=1, weight=1.0),))
    assert _json_column(verdict, "verdict_payloads", "tally")[0]["answer"] == text.replace(
        "\0", "\N{REPLACEMENT CHARACTER}"
    )


@pytest.mark.parametrize("asked_ms", [0, made.NOW_MS - 100 * DAY_MS, made.NOW_MS + 3 * DAY_MS, 2**48 - 1])
def test_a_request_of_another_time_and_its_failure_lie_under_the_day_that_recorded_them(asked_ms: int) -> None:
    today = moment(made.NOW_MS).date()
    days = (today - timedelta(days=90), today + timedelta(days=2))
    request_id = derived_request_id(asked_ms, "another time")
    events: list[Event] = [
        ReasoningRequested(question="q", request_id=request_id),
        RequestFailed(request_id=request_id, failure=RequestFailure.INVALID, message="m"),
    ]
    keys = {
        (table, row[0], row[1])
        for event in events
        for later_ms in (0, 5_000)
        for table, rows in rows_of([_recorded(event, key=request_id, recorded_ms=made.NOW_MS + later_ms)], days).items()
        for row in rows
    }
    assert keys == {
        (table, request_id, datetime.combine(today, datetime.min.time(), UTC))
        for table in ("requests", "request_payloads", "answers", "answer_payloads")
    }


def test_feedback_is_one_by_source_and_id_and_long_ones_are_digests() -> None:  # F04, P04
    opinion = FeedbackGiven(request_id=made.REQUEST_ID, reward=1.0)
    sources = ["", "/shop/web", "/shop/mobile", "/" + "s" * 8000, "/" + "t" * 8000]
    ids = ["1", "2", "x" * 8000, "x" * 7999 + "y"]
    rows = rows_of([_recorded(opinion, event_id=each, event_source=source) for each in ids for source in sources])
    for table in ("feedback", "feedback_payloads"):
        id_at, source_at = TABLES[table].index("event_id"), TABLES[table].index("event_source")
        keys = {(row[id_at], row[source_at]) for row in rows[table]}
        assert len(keys) == len(ids) * len(sources)
        assert max(len(text) for key in keys for text in key) <= 256


def test_what_was_said_before_the_last_turn_is_kept_with_the_path() -> None:
    turns = (
        Turn(form="tool", text="calculate(17-6", call=Call("calculator", "17-6"), tokens_in=9, tokens_out=5),
        Turn(form="tool", text=")=11\n", answer="11", tool="calculator"),
    )
    one = made.decoded(made.context(), 0, 1, "11")
    path = replace(one, turns=turns, form="tool")
    (row,) = rows_of([_recorded(path)])["path_payloads"]
    assert row[TABLES["path_payloads"].index("form")] == "tool"
    assert msgspec.convert(_json_column(path, "path_payloads", "turns"), tuple[Turn, ...]) == turns
    assert _json_column(one, "path_payloads", "turns") == []
    assert _json_column(made.failed(made.context(), 0, 1), "path_payloads", "turns") == []


def test_a_count_that_is_unknown_and_a_thought_are_stored_as_such() -> None:
    path = replace(made.decoded(made.context(), 0, 1, "4"), tokens_in=None, tokens_out=2**40, reasoning="so \0 4")
    rows = rows_of([_recorded(path)])
    (figures,), (texts,) = rows["paths"], rows["path_payloads"]
    assert [figures[TABLES["paths"].index(name)] for name in ("tokens_in", "tokens_out")] == [None, 2**31 - 1]
    assert texts[TABLES["path_payloads"].index("reasoning")] == "so \N{REPLACEMENT CHARACTER} 4"
