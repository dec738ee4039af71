"""The tracker as a state machine, and its commits through the metadata and back."""

import base64

import hypothesis.strategies as st
import pytest
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from conclave.runtime import commit_metadata
from conclave.runtime.tracker import MAX_SPAN, Commit, Tracker


class TrackerMachine(RuleBasedStateMachine):
    """A log is read with gaps, finished in any order, crashed and re-read; a plain model says what must hold."""

    @initialize(start=st.integers(0, 1000))
    def open(self, start: int) -> None:
        self.tracker = Tracker(start)
        self.log_end = start
        self.log: list[int] = []  # offsets that exist
        self.start = start
        self.finished: set[int] = set()
        self.position = 0  # index into the log of what is delivered next
        self.committed = Commit(start)

    @rule(gap=st.integers(0, 3))
    def append(self, gap: int) -> None:
        self.log.append(self.log_end + gap)
        self.log_end += gap + 1

    @precondition(lambda self: self.position < len(self.log))
    @rule()
    def deliver(self) -> None:
        offset = self.log[self.position]
        self.position += 1
        is_new = self.tracker.admit(offset)
        assert is_new == (offset not in self.finished)
        assert not self.tracker.admit(offset), "the same offset was admitted twice"

    @precondition(lambda self: self.tracker.running)
    @rule(data=st.data())
    def finish_some(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sets(st.sampled_from(sorted(self.tracker.running)), min_size=1))
        planned = self.tracker.commit_with(chosen)
        self.tracker.finish(chosen)
        self.finished |= chosen
        self.committed = planned
        assert planned == self.tracker.commit_with(()), "the commit differs from the state that it leads to"

    @rule()
    def crash_and_restore(self) -> None:
        read_back = commit_metadata.decode(self.committed.low, commit_metadata.encode(self.committed))
        assert read_back == self.committed
        self.tracker = Tracker.restore(self.committed)
        self.position = next((i for i, offset in enumerate(self.log) if offset >= self.tracker.low), len(self.log))

    @invariant()
    def nothing_unfinished_is_below_the_watermark(self) -> None:
        if hasattr(self, "log"):
            delivered = self.log[: self.position]
            assert all(offset in self.finished for offset in self.log if offset < self.tracker.low)
            for offset in delivered:
                assert (offset in self.tracker.running) == (offset not in self.finished)
            for offset in self.finished:
                assert self.committed.covers(offset)


TestTracker = TrackerMachine.TestCase


@given(st.integers(0, 2**40), st.sets(st.integers(1, MAX_SPAN), max_size=200))
def test_completed_sets_survive_the_metadata(low: int, beyond: set[int]) -> None:
    commit = Commit(low, frozenset(low + each for each in beyond))
    assert commit_metadata.decode(low, commit_metadata.encode(commit)) == commit


def test_the_widest_possible_set_fits_a_brokers_limit() -> None:
    every_other = Commit(0, frozenset(range(1, MAX_SPAN, 2)))
    # The worst case for compression is noise: a hash-like pattern over the whole span.
    noise = Commit(0, frozenset(i for i in range(1, MAX_SPAN) if (i * 2654435761) >> 7 & 1))
    for commit in (every_other, noise):
        assert len(commit_metadata.encode(commit)) <= 4096


@given(st.text() | st.binary().map(lambda raw: "2:" + base64.b64encode(raw).decode()))
def test_any_foreign_metadata_is_taken_for_unknown_or_bounded(metadata: str) -> None:
    commit = commit_metadata.decode(7, metadata)
    assert commit is None or all(7 < offset <= 7 + MAX_SPAN + 8 for offset in commit.done)


def test_a_span_at_its_cap_leaves_no_room() -> None:
    tracker = Tracker(0)
    for offset in range(MAX_SPAN):
        tracker.admit(offset)
    assert tracker.room == 0
    tracker.finish([0])
    assert tracker.room == 1


@pytest.mark.parametrize("garbage", ["1:!!!", "2:AAAA", "3:AAAA", "x"])
def test_metadata_of_another_program_is_unknown(garbage: str) -> None:
    assert commit_metadata.decode(0, garbage) is None


def test_a_log_that_begins_far_on_costs_no_more_than_one_that_begins_at_once() -> None:
    tracker = Tracker.restore(Commit(0, frozenset({7, 50_000_001})))
    assert tracker.admit(50_000_000)
    assert (tracker.low, tracker.done, tracker.span) == (50_000_000, {50_000_001}, 1)
    tracker.finish([50_000_000])
    assert tracker.commit_with(()) == Commit(50_000_002)
