"""Laws of the capacity model: known queues come out as known, limits bind, and costs are found again from what they lead to."""

import math
from dataclasses import replace
from pathlib import Path
from random import Random

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scale import Run, errors, fitted
from conclave.cli.capacity import OWN, SHIPPED, Measured, capacity, read
from conclave.domain.capacity.costs import SERVICES, Cost, Costs, Engine, Played, Stack
from conclave.domain.capacity.machine import Machine, Process
from conclave.domain.capacity.prediction import at_once, at_rate, cores_of, most_per_s, percentiles_ms, predicted
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
    hop_ms=3.0,
    uneven=0.25,
    used=0.95,
)
STACK = Stack(samples=8, cores=2, partitions=4)
EIGHT_B = Model(8e9)


def _waited_s(servers: int, use: float, num_jobs: int) -> float:
    """How long jobs wait on average that each have a mean of 1 s of work, exponential, at random moments, one thread a core."""
    machine, random, waited_s, at_s = Machine(servers), Random(5), [0.0], 0.0
    for _ in range(num_jobs):
        at_s += random.expovariate(use * servers)
        work_s = random.expovariate(1.0)

        def arrive(work_s: float = work_s) -> None:
            came_s = machine.now_s
            machine.compute(work_s, lambda: waited_s.append(machine.now_s - came_s - work_s))

        machine.later(at_s, arrive)
    machine.run(lambda: False)
    return sum(waited_s) / num_jobs


@pytest.mark.parametrize(("servers", "use"), [(1, 0.5), (1, 0.7), (4, 0.7)])
def test_shared_cores_make_wait_as_erlang_s_formula_says(servers: int, use: float) -> None:
    # Of exponential work, M/M/c: whoever shares waits as long on average as whoever queues.
    load = servers * use
    last = load**servers / math.factorial(servers) / (1 - use)
    waits = last / (sum(load**each / math.factorial(each) for each in range(servers)) + last)
    assert _waited_s(servers, use, 20_000) == pytest.approx(waits / (servers * (1 - use)), rel=0.15)


@given(st.lists(st.floats(0.001, 5.0), min_size=1, max_size=20), st.integers(1, 4))
def test_a_process_works_on_one_thing_after_the_other_and_cores_are_never_exceeded(
    work_s: list[float], cores: int
) -> None:
    machine = Machine(cores)
    processes, order = [Process(machine) for _ in range(3)], []
    for number, each in enumerate(work_s):
        processes[number % 3].compute(each, lambda number=number: order.append(number))  # type: ignore[misc]
    machine.run(lambda: False)
    for at in range(3):
        own = [number for number in order if number % 3 == at]
        assert own == sorted(own)
        assert processes[at].busy_s == pytest.approx(sum(work_s[at::3]))
    longest = max(process.busy_s for process in processes)
    least_s = max(longest, sum(work_s) / cores)
    assert least_s * 0.999 <= machine.now_s <= sum(work_s) * 1.001
    if cores >= 3:
        assert machine.now_s == pytest.approx(longest)


def test_a_request_alone_takes_what_its_parts_take_and_its_hops() -> None:
    even = replace(COSTS, uneven=0.0)
    played = at_rate(even, STACK, 0.1, 20, is_even=True)
    path_services = ("decomposer", "decoder", "voter")
    own_s = sum(even.parts[part].seconds(8, part != "decoder", 1) for part in path_services)
    own_s += even.parts["aggregator"].seconds(0, 1, 1)
    kafka_s = even.parts["kafka"].seconds(8, 1, 4)
    assert percentiles_ms(played)[0] == pytest.approx(1000 * (own_s + kafka_s) + 4 * even.hop_ms, rel=0.02)
    assert played.transactions == dict.fromkeys(SERVICES, 20) | {"recorder": pytest.approx(40, abs=20)}


@settings(max_examples=15, deadline=None)
@given(samples=st.integers(1, 16), cores=st.integers(1, 16), replicas=st.integers(1, 4), seed=st.integers(0, 3))
def test_every_request_is_answered_and_all_of_its_work_is_done(
    samples: int, cores: int, replicas: int, seed: int
) -> None:
    stack = Stack(samples=samples, cores=cores, replicas=dict.fromkeys(SERVICES, replicas), partitions=4)
    even = replace(COSTS, uneven=0.0)
    played = at_once(even, stack, 100 + seed) if seed % 2 else at_rate(even, stack, 30.0, 100 + seed)
    assert len(played.took_s) == 100 + seed
    assert min(played.took_s) > 0
    for part in ("decomposer", "decoder", "voter"):
        requests = 0 if part == "decoder" else 100 + seed
        done = even.parts[part].seconds(samples * (100 + seed), requests, played.transactions[part])
        assert played.busy_s[part] == pytest.approx(done)
        assert played.busy_s[part] <= played.lasted_s * stack.processes(part) * 1.001
    assert sum(cores_of(even, stack, played).values()) <= cores * 1.01


def test_the_more_are_asked_the_longer_answers_take_and_the_more_share_a_transaction() -> None:
    played = [at_rate(COSTS, STACK, rate, 500) for rate in (1.0, 50.0, 150.0, 300.0)]
    p99s = [percentiles_ms(each)[1] for each in played]
    assert p99s == sorted(p99s)
    transactions = [sum(each.transactions.values()) for each in played]
    assert transactions == sorted(transactions, reverse=True)
    assert predicted(COSTS, STACK, 1e5).p99_ms is None


def test_more_of_the_part_that_limits_carry_more_up_to_the_partitions() -> None:
    wide = Stack(samples=8, cores=64, partitions=24)
    one = most_per_s(COSTS, wide)
    assert one[1] == "one core for each decoder"
    two = most_per_s(COSTS, replace(wide, replicas={"decoder": 2}))
    assert two[0] > 1.5 * one[0]
    few = Stack(samples=8, cores=64, partitions=1, replicas={"decoder": 2})
    assert few.processes("decoder") == 1


def test_an_engine_limits_by_its_places_and_adds_the_slowest_of_a_request_s_paths() -> None:
    engine = Engine(places=64, path_s=lambda _: 2.0, spread=1.0)
    stack = Stack(samples=4, cores=16, engine=engine)
    most, limited_by = most_per_s(COSTS, stack)
    assert limited_by == "the engine"
    assert most == pytest.approx(64 / 2.0 / 4, rel=0.1)
    found = predicted(COSTS, stack, 4.0)
    assert found.running == pytest.approx(32.0, rel=0.15)  # Little's law
    # Lengths with a spread of 1 are exponential: the median of the longest of four is 2 s times -log(1 - 0.5 ** (1 / 4)).
    assert found.p50_ms is not None
    assert found.p50_ms / 1000 == pytest.approx(-2.0 * math.log(1 - 0.5**0.25), rel=0.15)


def test_costs_are_found_again_from_what_they_lead_to() -> None:
    full = [_seen(at_once(COSTS, replace(STACK, samples=each), 300), each, 300) for each in (8, 2)]
    paced = [_seen(at_rate(COSTS, STACK, rate, 120, is_even=True), 8, 120) for rate in (5.0, 40.0, 80.0, 150.0)]
    found = fitted(_seen(None, 8, 0), full, paced, cores=2)
    off = errors(found, full[0], paced, "same", cores=2)
    assert max(map(abs, off.values())) < 15.0, off
    more = replace(STACK, replicas=dict.fromkeys(SERVICES, 4))
    assert most_per_s(found, more)[0] == pytest.approx(most_per_s(COSTS, more)[0], rel=0.1)


def _seen(played: Played | None, samples: int, num_requests: int) -> Run:
    """What a stack of these costs would have been seen to do; None: at rest."""
    if played is None:
        return Run(1, samples, 0.0, {part: cost.idle_cores for part, cost in COSTS.parts.items()}, {}, 0)
    return Run(
        1,
        samples,
        num_requests * samples / played.lasted_s,
        cores_of(COSTS, replace(STACK, samples=samples), played),
        {part: each / played.lasted_s for part, each in played.transactions.items()},
        num_requests,
        [1000 * each for each in played.took_s],
    )


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
    asked = ["--rate", "4", "--gpu", "h100", "--cores", "16", "--costs", str(path)]
    computed = CliRunner().invoke(capacity, asked)
    assert computed.exit_code == 0, computed.output
    for said in ("limited by", "computed from the data sheet of h100", "a processor", "off by -12 %", "p99"):
        assert said in computed.output
    too_much = CliRunner().invoke(capacity, ["--rate", "100000", "--costs", str(path)])
    assert too_much.exit_code == 1
    assert "more than it carries" in too_much.output
    both = CliRunner().invoke(capacity, ["--rate", "1", "--gpu", "l4", "--tokens-per-s", "9", "--costs", str(path)])
    assert both.exit_code == 2


def test_costs_ship_and_the_command_says_whose_they_are() -> None:
    told = CliRunner().invoke(capacity, ["--rate", "1"], env={"CONCLAVE_STATE_DIR": "/nowhere"})
    assert told.exit_code == 0, told.output
    assert f"measured on {read(SHIPPED).cores} cores of" in told.output


def test_what_was_measured_here_goes_before_what_ships(tmp_path: Path) -> None:
    own = msgspec.structs.replace(read(SHIPPED), cpu="our own", cores=3)
    (tmp_path / OWN).write_bytes(msgspec.json.encode(own))
    told = CliRunner().invoke(capacity, ["--rate", "1"], env={"CONCLAVE_STATE_DIR": str(tmp_path)})
    assert "measured on 3 cores of our own" in told.output
