"""A thousand random schedules of every service, over all cores. `make simulate` plays ten thousand, `make soak` a million."""

import os

import pytest

from conclave.testing.soak import soak

NUM_SCHEDULES = 1000  # about a minute and a half beside all other tests, which stay well under half an hour


@pytest.mark.timeout(900)
def test_a_thousand_schedules_break_no_law() -> None:
    found = soak(first=0, num_schedules=NUM_SCHEDULES, jobs=os.cpu_count() or 1)
    print(found)
    assert not found.broken, f"replay: python -m conclave.testing.soak --replay {found.broken[0].seed}"


def test_a_soak_whose_time_is_up_plays_no_more() -> None:
    assert soak(first=0, num_schedules=1000, jobs=1, limit_s=0.0).num_schedules == 0
