"""Deduplication, dead letters, settings, groups and backoff: the runtime's parts that need no broker."""

import base64
import dataclasses
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given

from conclave.domain.joining import Decision, Wait
from conclave.errors import Misconfigured, Rejected, Unbegun
from conclave.runtime import dead_letters
from conclave.runtime.attempts import Backoff
from conclave.runtime.deduplication import Window
from conclave.runtime.groups import Decided, Failed, Groups
from conclave.runtime.limits import MAX_RECORD_BYTES
from conclave.runtime.record import Output
from conclave.runtime.settings import RuntimeSettings, load
from conclave.runtime.translation import Translator
from schemas import cloudevents
from schemas.codec import UnreadableEvent
from schemas.envelope import Envelope, Headers, header, is_own, rfc3339
from schemas.events import Event, ReasoningRequested, RequestFailed
from schemas.ids import derived_event_id, new_request_id
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


BIG = MAX_RECORD_BYTES


@pytest.mark.parametrize(
    ("record", "left_out"),
    [
        (FakeRecord(value=b"v" * (BIG - 9_000)), ()),
        (FakeRecord(value=b"v" * BIG), ("value",)),
        (FakeRecord(value=b"v" * 10 * BIG, headers=(("mine", b"1"),)), ("value",)),
        (FakeRecord(headers=(("mine", b"h" * BIG),)), ("headers",)),
        (FakeRecord(headers=(("a", b""),) * 300_000), ("headers",)),
        (FakeRecord(headers=(("\N{SNOWMAN}" * (BIG // 2), b""),)), ("headers",)),
        (FakeRecord(key=b"k" * BIG, value=None), ("key",)),
        (FakeRecord(key=b"k" * BIG, value=b"v" * BIG, headers=(("mine", b"h" * BIG),)), ("value", "headers", "key")),
    ],
    ids=["just fits", "too large", "inflated", "one header", "many headers", "a header's name", "key", "everything"],
)
def test_a_dead_letter_that_does_not_fit_leaves_out_what_is_too_large_and_says_so(
    record: FakeRecord, left_out: tuple[str, ...]
) -> None:
    cause = dead_letters.Cause(dead_letters.Reason.HANDLER, "e" * 9_000, "f" * 9_000, 1, "s" * 9_000)
    letter = dead_letters.dead_letter(record, cause, service="decomposer", now_ms=5_000)
    assert letter.size <= MAX_RECORD_BYTES
    read = dead_letters.read(dataclasses.replace(record, key=letter.key, value=letter.value, headers=letter.headers))
    assert read.left_out == left_out
    headers = dict(letter.headers)
    for part, data in (("value", record.value), ("key", record.key)):
        if part in left_out and data is not None:
            assert headers[f"conclave-{part}-bytes"] == str(len(data)).encode()
            assert headers[f"conclave-{part}-sha256"] == hashlib.sha256(data).hexdigest().encode()
    assert (letter.value == record.value) is ("value" not in left_out)
    assert (letter.key == record.key) is ("key" not in left_out)
    assert (headers["conclave-topic"], headers["conclave-offset"]) == (b"reasoning.requests", b"0")
    if left_out:
        with pytest.raises(Rejected, match=r"reasoning\.requests/0/0"):
            dead_letters.replay(read, "token")


@pytest.mark.parametrize("timestamp", [-(2**63), -1, 2**63 - 1])
def test_a_record_from_any_time_has_a_dead_letter(timestamp: int) -> None:
    cause = dead_letters.Cause(dead_letters.Reason.SCHEMA, "no")
    letter = dead_letters.dead_letter(FakeRecord(timestamp=timestamp), cause, service="decomposer", now_ms=5_000)
    assert (header(letter.headers, "conclave-recorded-at") or "").endswith("Z")


@given(
    st.builds(
        Output,
        topic=st.just("t"),
        key=st.none() | st.binary(max_size=300),
        value=st.none() | st.binary(max_size=300),
        headers=st.lists(st.tuples(st.text(max_size=40), st.binary(max_size=200)), max_size=300).map(tuple),
    )
)
def test_the_size_of_an_output_is_never_less_than_what_the_client_makes_of_it(output: Output) -> None:
    headers = list(output.headers)
    estimate = DefaultRecordBatchBuilder.estimate_size_in_bytes(output.key, output.value, headers)
    assert estimate <= output.size
    builder = DefaultRecordBatchBuilder(2, 0, True, 1, 1, 1, MAX_RECORD_BYTES)
    builder.append(0, 2**62, output.key, output.value, headers)
    assert len(builder.build()) <= output.size


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


def test_what_the_record_alone_refused_is_handled_by_nobody_again() -> None:
    record = FakeRecord(topic="reasoning.paths")
    cause = dead_letters.Cause(dead_letters.Reason.HANDLER, "a value that no column takes")
    by_recorder, by_guardian = (
        dead_letters.dead_letter(record, cause, service=service, now_ms=5_000) for service in ("recorder", "voter")
    )
    with pytest.raises(Rejected, match="one by voter"):
        dead_letters.replay(dead_letters.read(dataclasses.replace(record, headers=by_recorder.headers)), "token")
    again = dead_letters.replay(dead_letters.read(dataclasses.replace(record, headers=by_guardian.headers)), "token")
    assert again.topic == "reasoning.paths"


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
    assert groups.decide("b", 0) is None
    decided = groups.decide("a", 0)
    assert isinstance(decided, Decided)
    assert decided.group.offsets == (0, 2)
    assert groups.decide("a", 0) is None, "a closed group was joined again"
    assert len(groups) == 1


def test_a_group_that_asked_to_be_woken_is_due_once() -> None:
    groups = Groups(PairJoiner())
    groups.add(FakeRecord(0), _asked("a"), 0)
    groups.decide("a", 0)
    assert list(groups.due(99)) == []
    assert list(groups.due(100)) == ["a"]
    assert list(groups.due(100)) == []


def test_a_group_whose_joiner_fails_is_closed_with_its_error() -> None:
    groups = Groups(PairJoiner())
    groups.add(FakeRecord(0), _asked("a", "bad"), 0)
    failed = groups.decide("a", 0)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, Rejected)
    assert len(groups) == 0


def test_a_group_without_a_beginning_is_given_up_only_once_none_can_be_under_way() -> None:
    @dataclass
    class Beheaded(PairJoiner):
        def join(self, events: Sequence[Event], now_ms: int) -> Decision | Wait:
            raise Unbegun("$.question", "a beginning", "none")

    groups = Groups(Beheaded())
    groups.add(FakeRecord(0), _asked("a"), 0)
    assert groups.decide("a", 0) is None, "the log may hold its beginning further on"
    assert list(groups.due(1_000)) == ["a"]
    groups.is_read_back = True
    for name in ("one carry", "another"):
        groups.expect("a", name)
    for offset, name in enumerate(("no carry", "another", "one carry"), 1):
        assert groups.decide("a", 1_000) is None, "carries of parts of it are on their way"
        groups.add(FakeRecord(offset, headers=(("ce_id", name.encode()),)), _asked("a"), 1_000)
    assert isinstance(groups.decide("a", 2_000), Failed)


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
    translator = Translator("decomposer", lambda: 0)
    request = new_request_id()
    failed = RequestFailed(request_id=request, failure=RequestFailure.INVALID, message="m")
    record = FakeRecord(headers=(("ce_id", b"cause"), ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")))
    first, again = (translator.outputs(record, [failed, failed]) for _ in range(2))
    ids = [header(output.headers, "ce_id") for output in first]
    assert ids == [header(output.headers, "ce_id") for output in again]
    assert len(set(ids)) == 2
    assert all((header(output.headers, "traceparent") or "").startswith("00-" + "a" * 32) for output in first)


# -- envelopes ----------------------------------------------------------------------------------------------------------


@given(st.integers(-(10**12), 253_402_300_799_999))
def test_a_time_is_told_to_the_millisecond_and_can_be_read_back(timestamp_ms: int) -> None:
    told = rfc3339(timestamp_ms)
    assert told.endswith("Z")
    assert datetime.fromisoformat(told) - datetime.fromtimestamp(0, UTC) == timedelta(milliseconds=timestamp_ms)


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.integers(0, 10**6))
def test_an_id_is_the_digest_of_what_it_derives_from_in_base32(service: str, cause: str, kind: str, index: int) -> None:
    told = derived_event_id(service, cause, kind, index)
    digest = hashlib.blake2b(
        "\0".join([service, cause, kind, str(index)]).encode("utf-8", "replace"), digest_size=16
    ).digest()
    assert base64.b32decode(told.upper() + "======") == digest


# Headers as our envelope makes them, and what somebody may have made of them.
OWN = Envelope(
    id="i", type="conclave.PlanMade.v1", source="/conclave/decomposer", subject="s", time="t", traceparent="p"
).to_headers()
STRUCTURED = ("content-type", b"application/cloudevents+json")
CHANGES: tuple[Callable[[Headers], Headers], ...] = (
    lambda own: own,
    lambda own: own[1:],
    lambda own: (*own, STRUCTURED),
    lambda own: (*own[:-1], STRUCTURED),
    lambda own: (*own[:-1], ("Content-Type", STRUCTURED[1])),
    lambda own: tuple(STRUCTURED if pair[0] == "content-type" else pair for pair in own),
    lambda own: tuple(("ce_specversion", b"") if pair[0] == "ce_specversion" else pair for pair in own),
    lambda own: (),
)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("value", [b"{}", b'{"specversion":"1.0"}'])
def test_headers_that_are_known_at_a_glance_are_read_as_all_others_are(
    change: Callable[[Headers], Headers], value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = change(OWN)
    at_a_glance = cloudevents.is_structured(headers, value)
    monkeypatch.setattr(cloudevents, "is_own", lambda _: False)
    assert at_a_glance == cloudevents.is_structured(headers, value)
    assert is_own(headers) == (headers == OWN)
