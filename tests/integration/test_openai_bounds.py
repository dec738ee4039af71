"""The engine behaves the same at both ends of the range of `openai` clients that it allows: 1 stands on httpx, 3 on httpx2."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]
_CONFORMANCE = "tests/unit/test_engine_conformance.py"


def _bounds() -> tuple[str, int]:
    """(lowest version, first major version that is not allowed), as pyproject.toml has them."""
    project = tomllib.loads((_CHECKOUT / "pyproject.toml").read_text())["project"]
    lowest, beyond = project["optional-dependencies"]["openai"][0].removeprefix("openai>=").split(",<")
    return lowest, int(beyond)


def test_the_installed_client_is_of_the_newest_major_version_that_is_allowed() -> None:
    assert int(version("openai").split(".")[0]) == _bounds()[1] - 1


def test_the_lowest_client_that_is_allowed_conforms_too(tmp_path: Path) -> None:
    lowest, _ = _bounds()
    install = [str(Path(sys.executable).parent / "uv"), "pip", "install", "--quiet", "--python", sys.executable]
    subprocess.run([*install, "--target", str(tmp_path), f"openai=={lowest}"], check=True, timeout=120)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_CHECKOUT), str(tmp_path)])}
    which = "import openai; print(openai.__version__)"
    found = subprocess.run([sys.executable, "-c", which], env=environment, capture_output=True, text=True, timeout=60)
    assert found.stdout.startswith(lowest), found.stdout + found.stderr
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", _CONFORMANCE]
    run = subprocess.run(command, cwd=_CHECKOUT, env=environment, capture_output=True, text=True, timeout=250)
    assert run.returncode == 0, run.stdout[-5000:]
