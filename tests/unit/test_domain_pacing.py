"""Laws of the door's arithmetic: what is let in stays within the room, and what is urgent within its rate."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from conclave.domain.pacing import Room, TokenBuckets

MINUTE_MS = 60_000


def test_nothing_is_launched_before_it_was_counted_what_is_open() -> None:
    room = Room(100)
    assert not room.is_open()
    assert room.is_low
    room.counted(40, num_decoders=1, share=1.0)
    assert room.left == 60
    assert not room.is_low


def test_room_grows_with_decoders_and_is_shared_by_those_who_launch() -> None:
    room = Room(100)
    room.counted(100, num_decoders=3, share=0.25)
    assert room.left == 0.25 * (300 - 100)


def test_what_is_urgent_goes_a_quarter_beyond_the_room_and_no_further() -> None:
    room = Room(100)
    room.counted(100, num_decoders=1, share=1.0)
    assert not room.is_open()
    num_urgent = 0
    while room.is_open(is_urgent=True):
        room.launched(str(num_urgent), 1)
        num_urgent += 1
    assert num_urgent == 25


@settings(max_examples=50)
@given(done=st.lists(st.integers(0, 300), min_size=5, max_size=60), num_late=st.integers(0, 5), size=st.integers(1, 16))
def test_what_is_open_stays_within_the_room_however_late_the_log_shows_it(
    done: list[int], num_late: int, size: int
) -> None:
    """`num_late`: counts before a sample that was launched shows in the log."""
    room, num_shown = Room(100), 0
    under_way: list[list[str]] = [[] for _ in range(num_late + 1)]  # keys, by count
    for number, num_done in enumerate(done):
        shown, *under_way = under_way
        num_shown += size * len(shown)
        room.in_log(shown.__contains__)
        room.counted(num_shown, num_decoders=1, share=1.0)
        launched: list[str] = []
        while room.is_open():
            launched.append(f"{number}-{len(launched)}")
            room.launched(launched[-1], size)
        under_way.append(launched)
        num_open = num_shown + size * sum(map(len, under_way))
        assert 100 <= num_open < 100 + size  # in full, and no more
        num_shown -= min(num_done, num_shown)


def test_what_is_about_to_be_launched_is_counted_once() -> None:
    room = Room(100)
    room.counted(0, num_decoders=1, share=1.0)
    room.expected(8)
    assert room.left == 92
    room.counted(10, num_decoders=1, share=1.0, expected=8)
    assert room.left == 82
    room.expected(-8)
    room.launched("a", 4)
    assert room.left == 86


@settings(max_examples=50)
@given(seed=st.integers(0, 1000), per_minute=st.integers(1, 100))
def test_a_tenant_never_has_more_than_its_rate_and_one_burst_whatever_the_order_of_the_times(
    seed: int, per_minute: int
) -> None:
    rng, buckets = random.Random(seed), TokenBuckets(per_minute)
    span_ms = 3 * MINUTE_MS
    times = sorted(rng.randrange(span_ms) for _ in range(1000))
    for at in range(0, 1000, 10):  # records of partitions that are read in turns
        times[at : at + 10] = rng.sample(times[at : at + 10], 10)
    granted = sum(buckets.take("a", each) for each in times)
    assert granted <= per_minute * (1 + span_ms / MINUTE_MS) + 1
    assert granted >= min(1000, per_minute)


def test_tenants_have_a_bucket_each_and_nobody_where_none_is_given() -> None:
    buckets = TokenBuckets(2)
    assert [buckets.take("a", 0) for _ in range(3)] == [True, True, False]
    assert buckets.take("b", 0)
    assert buckets.take("a", MINUTE_MS // 2)
    assert not TokenBuckets(0).take("a", 0)


def test_a_share_of_the_requests_has_that_share_of_the_rate() -> None:
    buckets = TokenBuckets(8)
    assert sum(buckets.take("a", 0, share=0.5) for _ in range(8)) == 4
