"""Deduplication, dead letters, settings, groups and backoff: the runtime's parts that need no broker."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import given

from conclave.domain.joining import Decision, Wait
from conclave.errors import Misconfigured, Rejected
from conclave.runtime import dead_letters
from conclave.runtime.attempts import Backoff
from conclave.runtime.deduplication import Window
from conclave.runtime.groups import Decided, Failed, Groups
from conclave.runtime.intake import Publisher
from conclave.runtime.settings import RuntimeSettings, load
from schemas.codec import UnreadableEvent
from schemas.envelope import Headers, header
from schemas.events import Event, ReasoningRequested, RequestFailed
from schemas.ids import new_request_id
from schemas.values import RequestFailure


@dataclass(frozen=True)
class FakeRecord:
    """A record as a broker would deliver it."""

    offset: int = 0
    key: bytes | None = b"k"
    value: bytes | None = b"{}"
    headers: Headers = ()
    topic: str = "reasoning.requests"
    partition: int = 0
    timestamp: int = 1_000


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 40))
def test_the_first_record_of_an_id_counts_wherever_a_restart_reads_the_log_back(keys: list[int], low: int) -> None:
    expected = [key in keys[:offset] for offset, key in enumerate(keys)]
    before, after = Window(100), Window(100)
    assert [before.note(str(key), offset) for offset, key in enumerate(keys)] == expected
    for offset, key in enumerate(keys[:low]):
        after.note(str(key), offset)
    # Records from the watermark on are read again, in order, whether they were handled before or not.
    again = [after.note(str(key), offset) for offset, key in enumerate(keys) if offset >= low]
    assert again == expected[low:]


def test_a_window_forgets_the_oldest_ids_beyond_its_size() -> None:
    window = Window(2)
    for offset, key in enumerate("abc"):
        assert not window.note(key, offset)
    assert window.note("b", 3)
    assert not window.note("a", 4), "an id beyond the window was still known"


def test_a_dead_letter_keeps_the_bytes_and_says_why_and_where() -> None:
    record = FakeRecord(offset=42, value=b"\xff\x00", headers=(("mine", b"1"), ("conclave-reason", b"an older one")))
    error = UnreadableEvent(dead_letters.Reason.SCHEMA, "$.question", "expected `str`")  # type: ignore[arg-type]
    letter = dead_letters.dead_letter(record, dead_letters.cause_of(error), service="decomposer", now_ms=5_000)
    assert (letter.topic, letter.key, letter.value) == ("reasoning.requests.dead-letters", b"k", b"\xff\x00")
    headers = dict(letter.headers)
    assert headers["mine"] == b"1"
    assert headers["conclave-reason"] == b"schema"
    assert headers["conclave-field"] == b"$.question"
    assert headers["conclave-offset"] == b"42"


def test_a_replay_is_the_record_as_received_plus_a_token() -> None:
    letter = dead_letters.DeadLetter(
        id="t/0/0",
        source_topic="reasoning.requests",
        reason="schema",
        field="",
        error="",
        key=b"k",
        value=b"v",
        headers=(("ce_id", b"1"), ("conclave-reason", b"schema")),
        recorded_ms=0,
    )
    output = dead_letters.replay(letter, "token")
    assert (output.topic, output.key, output.value) == ("reasoning.requests", b"k", b"v")
    assert dict(output.headers) == {"ce_id": b"1", dead_letters.REPLAY_HEADER: b"token"}


def test_all_wrong_settings_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONCLAVE_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("CONCLAVE_MAX_IN_FLIGHT", "many")
    with pytest.raises(Misconfigured) as caught:
        load(RuntimeSettings)
    assert {setting.name for setting in caught.value.settings} == {
        "CONCLAVE_BOOTSTRAP_SERVERS",
        "CONCLAVE_MAX_IN_FLIGHT",
    }
    assert "many" in str(caught.value)


@given(st.integers(1, 10_000), st.integers())
def test_backoff_stays_within_its_cap(attempt: int, seed: int) -> None:
    assert 0 < Backoff(0.2, cap_s=30.0).delay_s(attempt, random.Random(seed)) <= 30.0


@dataclass
class PairJoiner:
    """Decides as soon as it sees two events of a key; fails on a question that says so."""

    calls: list[int] = field(default_factory=list)

    def key(self, event: Event) -> str:
        assert isinstance(event, ReasoningRequested)
        return event.tags["group"]

    def join(self, events: Sequence[Event], now_ms: int) -> Decision | Wait:
        self.calls.append(len(events))
        if any(isinstance(event, ReasoningRequested) and event.question == "bad" for event in events):
            raise Rejected("$.question", "a good question", "bad")
        return Decision((), events[0]) if len(events) == 2 else Wait(now_ms + 100)

    def carry(self, events: Sequence[Event]) -> Event:
        return events[0]

    def give_up(self, events: Sequence[Event], cause: dead_letters.Cause, now_ms: int) -> Decision:
        return Decision()


def _asked(group: str, question: str = "q") -> ReasoningRequested:
    return ReasoningRequested(question=question, tags={"group": group})


def test_a_decision_completes_all_that_its_group_has_read_and_nothing_else() -> None:
    groups = Groups(PairJoiner())
    for offset, key in enumerate(["a", "b", "a"]):
        groups.add(FakeRecord(offset), _asked(key), 0)
    assert groups.join("b", 0) is None
    decided = groups.join("a", 0)
    assert isinstance(decided, Decided)
    assert decided.group.offsets == (0, 2)
    assert groups.join("a", 0) is None, "a closed group was joined again"
    assert len(groups) == 1


def test_a_group_that_asked_to_be_woken_is_due_once() -> None:
    groups = Groups(PairJoiner())
    groups.add(FakeRecord(0), _asked("a"), 0)
    groups.join("a", 0)
    assert list(groups.due(99)) == []
    assert list(groups.due(100)) == ["a"]
    assert list(groups.due(100)) == []


def test_a_group_whose_joiner_fails_is_closed_with_its_error() -> None:
    groups = Groups(PairJoiner())
    groups.add(FakeRecord(0), _asked("a", "bad"), 0)
    failed = groups.join("a", 0)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, Rejected)
    assert len(groups) == 0


def test_the_oldest_group_is_carried_forward_only_when_it_is_old() -> None:
    groups = Groups(PairJoiner())
    groups.add(FakeRecord(5), _asked("a"), 0)
    groups.add(FakeRecord(6), _asked("b"), 0)
    assert groups.carry_oldest(lambda group: False) is None
    carried = groups.carry_oldest(lambda group: True)
    assert isinstance(carried, Decided)
    assert carried.group.offsets == (5,)
    assert carried.decision.outputs == ()
    assert carried.decision.carry is not None


def test_ids_of_outputs_are_the_same_after_a_redo_and_differ_within_one() -> None:
    publisher = Publisher("decomposer", lambda: 0)
    request = new_request_id()
    failed = RequestFailed(request_id=request, failure=RequestFailure.INVALID, message="m")
    record = FakeRecord(headers=(("ce_id", b"cause"), ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")))
    first, again = (publisher.outputs(record, [failed, failed]) for _ in range(2))
    ids = [header(output.headers, "ce_id") for output in first]
    assert ids == [header(output.headers, "ce_id") for output in again]
    assert len(set(ids)) == 2
    assert all((header(output.headers, "traceparent") or "").startswith("00-" + "a" * 32) for output in first)
