"""The how-tos' examples run, as for a user from outside the package: files in a folder of their own, and a test beside them.

A block of a how-to whose first line is a comment with a file's name is that file. All files of a how-to go into one folder, and
the tests among them are run there, in one process for all how-tos: what one adds to the tables must not disturb another.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

_CHECKOUT = Path(__file__).resolve().parents[2]
_GUIDES = [*(_CHECKOUT / "docs" / "how-to").glob("add-a*.md"), *(_CHECKOUT / "docs" / "how-to").glob("write-a*.md")]
_BLOCK = re.compile(r"^```\w+\n# (?P<file>[\w./-]+\.\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"


def _files(how_to: Path) -> dict[str, str]:
    """The files that a how-to shows, by name."""
    return {found["file"]: found["text"] for found in _BLOCK.finditer(how_to.read_text())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of all how-tos, a folder each."""
    root = tmp_path_factory.mktemp("how_tos")
    (root / "pytest.ini").write_text(_INI)
    for how_to in _GUIDES:
        for name, text in _files(how_to).items():
            path = root / how_to.stem / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return root


@pytest.fixture(scope="module")
def outcome(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """The tests of each how-to, with what each failed of ("" for one that passed)."""
    report = folder / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert report.exists(), done.stdout + done.stderr
    found: dict[str, list[tuple[str, str]]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        broken = case.find("failure") if case.find("failure") is not None else case.find("error")
        where = f"{case.get('classname')}.{case.get('name')}".lstrip(".")
        how_to = where.replace("/", ".").partition(".")[0]
        found.setdefault(how_to, []).append((where, "" if broken is None else str(broken.text)))
    return found


@pytest.mark.parametrize("how_to", _GUIDES, ids=lambda each: each.stem)
def test_its_examples_work(how_to: Path, outcome: dict[str, list[tuple[str, str]]]) -> None:
    tests = outcome.get(how_to.stem, [])
    assert tests, "a how-to that shows files shows a test of them"
    assert [told for _, told in tests if told] == []


def test_the_examples_are_written_as_the_code_is(folder: Path) -> None:
    for arguments in (["format", "--check", "--diff"], ["check", "--output-format=concise"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--config", str(_CHECKOUT / "pyproject.toml")]
        done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
