"""Every request of a flush and of an opening, lost, refused or cut short by a kill; and schedules that can be played again."""

import hashlib
import os
import subprocess
import sys

import pytest

from conclave.testing.network import Fate, Plan, Request
from conclave.testing.simulation import simulate

LANE_SERVICES = ("decomposer", "decoder", "voter", "aggregator")
SEED = 2  # its requests reach every service
OF_A_FLUSH = (Request.PRODUCE, Request.OFFSETS, Request.COMMIT)
OF_AN_OPENING = (Request.HEARTBEAT, Request.OPEN, Request.COMMITTED, Request.METADATA)


@pytest.mark.parametrize("service", LANE_SERVICES)
@pytest.mark.parametrize("request_", OF_A_FLUSH)
@pytest.mark.parametrize("fate", [fate for fate in Fate if fate is not Fate.OK])
def test_a_flush_that_is_cut_short_anywhere_loses_and_repeats_nothing(
    service: str, request_: Request, fate: Fate
) -> None:
    report = simulate(seed=SEED, num_moves=0, plans=[Plan(fate, request_, service)])
    assert [move for move in report.moves if str(fate) in move], "it never came to that"
    assert not report.violations, report


@pytest.mark.parametrize("service", [*LANE_SERVICES, "recorder"])
@pytest.mark.parametrize("request_", OF_AN_OPENING)
@pytest.mark.parametrize("fate", [Fate.LOST_REQUEST, Fate.LOST_REPLY, Fate.KILLED_BEFORE, Fate.KILLED_AFTER])
def test_an_opening_that_is_cut_short_anywhere_loses_and_repeats_nothing(
    service: str, request_: Request, fate: Fate
) -> None:
    report = simulate(seed=SEED, num_moves=0, plans=[Plan(fate, request_, service)])
    assert not report.violations, report


def test_a_schedule_is_the_same_whenever_and_wherever_it_is_played() -> None:
    code = "from tests.simulation.test_cuts import digest; print(digest())"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def digest() -> str:
    """What ten schedules came to, as a hash."""
    reports = [simulate(seed) for seed in range(10)]
    played = [(report.moves, report.virtual_s, report.num_callbacks, report.num_records) for report in reports]
    return hashlib.sha256(repr(played).encode()).hexdigest()
