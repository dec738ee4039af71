"""Paths that are handed on by the whole stack, whatever befalls it, are those that they would have been."""

import asyncio
from collections.abc import Collection

import pytest
from msgspec.structs import replace

from conclave.runtime.translation import Translator
from conclave.testing import laws
from conclave.testing.loop import PROCESS
from conclave.testing.simulation import Simulation, quiet
from schemas.events import PathDecoded, SampleRequested
from schemas.flow import Topic
from tests.handed_on import alike, in_one_go


def played(
    seed: int, chunk_tokens: int, *, num_moves: int, only: Collection[str], latency_ms: float | None = None
) -> Simulation:
    """A schedule in which all policies have such chunks, and paths take so long."""
    simulation = Simulation(seed, num_moves=num_moves, only=only)
    simulation.processes.chunk_tokens = chunk_tokens
    simulation.processes.failing, simulation.expected.is_unsteady = 0.0, False
    if latency_ms is not None:
        simulation.processes.engine_latency_ms = latency_ms
    with quiet():
        report = simulation.run()
    assert not report.violations, report
    return simulation


def test_whatever_befalls_the_decoders_each_path_is_the_one_that_it_would_have_been() -> None:
    num_handed_on = 0
    for seed in range(300, 312):
        moves = ("kill", "stop", "rebalance", "add", "freeze", "put_out", "cut")
        num_handed_on += _check_paths(played(seed, 8, num_moves=6, only=moves))
    assert num_handed_on > 20


def test_a_decoder_that_ends_hands_on_what_runs_whatever_its_policy() -> None:
    num_handed_on = 0
    for seed in range(347, 352):
        num_handed_on += _check_paths(played(seed, 0, num_moves=12, only=("stop",), latency_ms=3_000.0))
    assert num_handed_on > 0


def _check_paths(simulation: Simulation) -> int:
    """Compares each path with the same sample decoded without a cut. How often they were handed on.

    Not those that call tools: a tool's thread takes real time, of which none passes in the simulator, or all that it may take.
    """
    paths = laws.events(simulation.cluster.records(Topic.PATHS.value))
    decoded = [path for path in paths if isinstance(path, PathDecoded) and path.context.ask.program != "tools"]
    for path in decoded:
        assert alike(path) == alike(asyncio.run(in_one_go(path)))
    return sum(path.num_handed_on for path in decoded)


def test_decoders_of_before_and_of_now_side_by_side_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Translator.read

    def read_by(self: Translator, record: object) -> object:
        event = read(self, record)  # type: ignore[arg-type]
        is_old = PROCESS.get().endswith(("-2", "-4", "-6"))
        return replace(event, progress=None) if is_old and isinstance(event, SampleRequested) else event

    monkeypatch.setattr(Translator, "read", read_by)
    num_handed_on = 0
    for seed in range(320, 324):
        simulation = Simulation(seed, num_moves=5, only=("stop", "add", "rebalance"))
        simulation.processes.chunk_tokens = 8
        with quiet():
            report = simulation.run()
        # How often a path was handed on is counted anew by one that decodes all of it.
        assert not [each for each in report.violations if "handed on" not in each], report
        num_handed_on += sum(
            isinstance(each, SampleRequested) and each.progress is not None
            for each in laws.events(simulation.cluster.records(Topic.SAMPLES.value))
        )
    assert num_handed_on > 0
