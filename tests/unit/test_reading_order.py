"""The order in which docs/architecture.md has the runtime read: each module or package needs only those before it."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What each says for itself, and nobody has to have read.
ASIDE = {"metrics", "settings", "logs", "clock", "health"}
# Not of a service's runtime: the client of the command line, the topics that it prepares, the dead letters that people read.
OTHERS = {"__init__", "client", "letter_log", "topics"}


def test_the_reading_order_of_the_runtime_closes_by_itself() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    order = re.findall(r"`(\w+)(?:\.py|/)`", page[page.index("none needs a later one") :].split("\n\n")[0])
    runtime = ROOT / "conclave" / "runtime"
    files = {path.stem: path.read_text() for path in runtime.glob("*.py")}
    for package in (path.parent for path in runtime.glob("*/__init__.py")):
        files[package.name] = "".join(path.read_text() for path in package.glob("*.py"))
    assert sorted(order) == sorted(set(files) - ASIDE - OTHERS)
    for position, name in enumerate(order):
        needed = set(re.findall(r"^from conclave\.runtime\.(\w+)[. ]", files[name], flags=re.M)) - {name}
        for line in re.findall(r"^from conclave\.runtime import (.+)", files[name], flags=re.M):
            needed |= set(line.partition("#")[0].strip().split(", "))
        assert needed <= {*order[:position], *ASIDE}, f"{name}.py needs {needed - set(order[:position]) - ASIDE}"
