"""A service's process that is started before it is known where the servers are, and goes on once it is."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from conclave.local.service import HeldService

_CHECKOUT = Path(__file__).resolve().parents[2]
_WITHIN_S = 120.0
_OWN = """
import os, sys
print("runs as", __name__, "with", sys.argv[1:], os.environ.get("CONCLAVE_BOOTSTRAP_SERVERS"))
"""


@asynccontextmanager
async def _held(module: str, folder: Path) -> AsyncIterator[HeldService]:
    held = HeldService(module, module, log_path=folder / "log", directory=_CHECKOUT)
    try:
        yield held
    finally:
        await held.kill()


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An operator's own service, which says how it was run."""
    (tmp_path / "own_service.py").write_text(_OWN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    return "own_service"


async def test_a_held_service_runs_as_a_program_with_the_settings_that_it_is_given(
    own_module: str, tmp_path: Path
) -> None:
    async with _held(own_module, tmp_path) as held:
        process = held.release({"CONCLAVE_BOOTSTRAP_SERVERS": "h:1"})
        assert await process.wait(_WITHIN_S)
    assert (tmp_path / "log").read_text() == "runs as __main__ with [] h:1\n"
    assert process.exit_status == 0


async def test_a_held_service_refuses_wrong_settings_as_one_that_is_deployed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONCLAVE_BOOTSTRAP_SERVERS", raising=False)
    async with _held("services.voter", tmp_path) as held:
        process = held.release({"CONCLAVE_VOTER_JUDGES": "0"})
        assert await process.wait(_WITHIN_S)
    deployed = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.voter", cwd=_CHECKOUT, env=dict(os.environ) | {"CONCLAVE_VOTER_JUDGES": "0"},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await deployed.communicate()
    assert (process.exit_status, (tmp_path / "log").read_bytes()) == (deployed.returncode, said)
    assert b"CONCLAVE_VOTER_JUDGES" in said


def test_a_held_service_ends_by_itself_when_nobody_is_left_to_release_it(own_module: str) -> None:
    reading, writing = os.pipe()
    orphan = subprocess.Popen(
        [sys.executable, "-m", "conclave.local.held", str(reading), own_module], pass_fds=(reading,), cwd=_CHECKOUT,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    os.close(reading)
    os.close(writing)
    said, _ = orphan.communicate(timeout=_WITHIN_S)
    assert (orphan.returncode, said) == (0, b"")


async def test_a_held_service_that_has_died_is_released_as_a_process_that_has_ended(tmp_path: Path) -> None:
    async with _held("services.no_such", tmp_path) as held:
        assert await held.process.wait(_WITHIN_S)
        assert held.release({"A": "b"}).exit_status == 1
    assert "No module named 'services.no_such'" in (tmp_path / "log").read_text()
