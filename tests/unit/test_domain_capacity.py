"""Laws of the capacity model: known queues come out as known, limits bind, and costs are found again from what they lead to."""

import math
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scale import Run, errors, fitted
from conclave.cli.capacity import Measured, capacity
from conclave.domain.capacity import (
    ONE_PROCESS,
    Cost,
    Costs,
    Engine,
    Latency,
    Stack,
    most_per_s,
    predicted,
    queued_s,
    waiting_s,
)
from conclave.domain.gpus import GPUS, Model, most_running, step_s

COSTS = Costs(
    parts={
        "kafka": Cost(0.02, 20.0, 80.0, 900.0),
        "postgres": Cost(0.01, 25.0, 10.0, 600.0),
        "decomposer": Cost(0.01, 20.0, 150.0, 700.0),
        "decoder": Cost(0.01, 110.0, 5.0, 700.0),
        "voter": Cost(0.01, 25.0, 40.0, 600.0),
        "aggregator": Cost(0.01, 5.0, 120.0, 600.0),
        "recorder": Cost(0.01, 45.0, 30.0, 500.0),
    },
    half=25.0,
    steepness=1.5,
    used=0.95,
    p50=Latency(20.0, 1.0),
    p99=Latency(40.0, 4.0),
)
STACK = Stack(samples=8, cores=2, partitions=4)
EIGHT_B = Model(8e9)


def _erlang_c(servers: int, use: float) -> float:
    """The probability of waiting in M/M/c."""
    load = servers * use
    last = load**servers / math.factorial(servers) / (1 - use)
    return last / (sum(load**each / math.factorial(each) for each in range(servers)) + last)


@pytest.mark.parametrize("servers", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("use", [0.5, 0.8, 0.95])
def test_waiting_is_that_of_erlang_s_formula(servers: int, use: float) -> None:
    exact_s = _erlang_c(servers, use) / (servers * (1 - use))
    assert queued_s(1.0, use, servers) == pytest.approx(exact_s)


@settings(max_examples=50)
@given(samples=st.integers(1, 32), cores=st.integers(1, 64), replicas=st.integers(1, 8))
def test_at_what_it_carries_a_limit_is_reached_and_none_is_passed(samples: int, cores: int, replicas: int) -> None:
    stack = Stack(samples=samples, cores=cores, replicas=dict.fromkeys(ONE_PROCESS, replicas))
    most, limited_by = most_per_s(COSTS, stack)
    found = predicted(COSTS, stack, most * 0.999)
    assert found.p99_ms is not None
    assert sum(found.cores_of.values()) <= cores * COSTS.used
    assert all(found.cores_of[each] <= stack.processes(each) for each in ONE_PROCESS)
    assert predicted(COSTS, stack, most * 1.001).p99_ms is None
    if limited_by == "the cores":
        assert sum(found.cores_of.values()) == pytest.approx(cores * COSTS.used, rel=0.01)


def test_more_of_the_part_that_limits_carry_more_up_to_the_partitions() -> None:
    one = most_per_s(COSTS, Stack(samples=8, cores=64))
    assert one[1] == "one core for each decoder"
    two = most_per_s(COSTS, Stack(samples=8, cores=64, replicas={"decoder": 2}))
    assert two[0] > 1.9 * one[0]
    few = Stack(samples=8, cores=64, partitions=1, replicas={"decoder": 2})
    assert few.processes("decoder") == 1


def test_answers_take_longer_the_more_are_asked_and_at_rest_what_was_measured() -> None:
    told = [predicted(COSTS, STACK, rate) for rate in (0.001, 50.0, 200.0, 400.0)]
    p99s = [each.p99_ms for each in told if each.p99_ms is not None]
    assert p99s == sorted(p99s)
    assert told[0].p50_ms == pytest.approx(20.0, abs=3.0)


def test_an_engine_limits_by_its_places_and_adds_the_slowest_of_a_request_s_paths() -> None:
    engine = Engine(places=64, path_s=lambda _: 2.0, spread=1.0)
    stack = Stack(samples=4, cores=16, engine=engine)
    most, limited_by = most_per_s(COSTS, stack)
    assert limited_by == "the engine"
    assert most == pytest.approx(64 / 2.0 / 4)
    found = predicted(COSTS, stack, most / 2)
    assert found.running == pytest.approx(32.0, rel=0.01)
    # Lengths with a spread of 1 are exponential: the median of the longest of four is 2 s times -log(1 - 0.5 ** (1 / 4)).
    assert found.p50_ms is not None
    assert found.p50_ms / 1000 == pytest.approx(-2.0 * math.log(1 - 0.5**0.25), rel=0.1)


def test_costs_are_found_again_from_what_they_lead_to() -> None:
    full = [_run(predicted(COSTS, Stack(samples=each, cores=2, partitions=4), 1.0).most_per_s, each) for each in (8, 2)]
    paced = [_run(share * full[0].paths_per_s / 8, 8) for share in (0.02, 0.1, 0.3, 0.6)]
    found = fitted(_run(0.0, 8), full, paced, cores=2)
    off = errors(found, full[0], paced, "same", cores=2)
    assert max(map(abs, off.values())) < 5.0, off
    more = Stack(samples=8, cores=2, partitions=4, replicas=dict.fromkeys(ONE_PROCESS, 4))
    assert most_per_s(found, more)[0] == pytest.approx(most_per_s(COSTS, more)[0], rel=0.05)


def _run(requests_per_s: float, samples: int) -> Run:
    """What a stack of these costs would have been seen to do."""
    stack = Stack(samples=samples, cores=2, partitions=4)
    told = predicted(COSTS, stack, requests_per_s * 0.999)
    waited_ms = 1000 * waiting_s(COSTS, stack, requests_per_s * samples)
    took_ms = [20.0 + waited_ms] * 98 + [40.0 + 4 * waited_ms] * 2
    return Run(1, samples, requests_per_s * samples, told.cores_of, took_ms)


@pytest.mark.parametrize("name", GPUS)
def test_a_step_is_bound_by_memory_for_few_and_takes_no_less_time_for_more(name: str) -> None:
    gpu = GPUS[name]
    alone_s = step_s(gpu, EIGHT_B, 1.0, 512.0)
    assert alone_s == pytest.approx(EIGHT_B.num_bytes / gpu.bandwidth_gb_s / 1e9, rel=0.01)
    steps_s = [step_s(gpu, EIGHT_B, each, 512.0) for each in (1.0, 8.0, 64.0, 512.0)]
    assert steps_s == sorted(steps_s)
    assert 512 / steps_s[-1] > 64 / steps_s[-2]  # tokens a second


def test_what_does_not_fit_a_gpu_does_not_run_there() -> None:
    assert most_running(GPUS["l4"], Model(70e9), 512.0) == 0
    assert most_running(GPUS["h200"], EIGHT_B, 512.0) > most_running(GPUS["h100"], EIGHT_B, 512.0) > 500


def test_the_command_says_what_is_computed_what_was_measured_and_what_is_too_much(tmp_path: Path) -> None:
    measured = Measured(
        costs=COSTS, cpu="a processor", cores=2, commit="abc", at="today", errors_percent={"p99": -12.0, "p50": 3.0}
    )
    path = tmp_path / "costs.json"
    path.write_bytes(msgspec.json.encode(measured))
    computed = CliRunner().invoke(capacity, ["--rate", "5", "--gpu", "h100", "--cores", "16", "--costs", str(path)])
    assert computed.exit_code == 0, computed.output
    for said in ("limited by the engine", "computed from the data sheet of h100", "a processor", "off by -12 %", "p99"):
        assert said in computed.output
    too_much = CliRunner().invoke(capacity, ["--rate", "100000", "--costs", str(path)])
    assert too_much.exit_code == 1
    assert "more than it carries" in too_much.output
    both = CliRunner().invoke(capacity, ["--rate", "1", "--gpu", "l4", "--tokens-per-s", "9", "--costs", str(path)])
    assert both.exit_code == 2
