"""What a service does not need is not imported when it starts: each start, and each restart after a crash, would wait for it."""

import subprocess
import sys

_HEAVY = ("jsonschema", "mcp", "numpy", "openai", "rich", "scipy", "torch", "vllm")
_PROGRAM = """
import importlib, sys
for name in {services}:
    importlib.import_module("services." + name + ".__main__")
print(*(name for name in {heavy} if name in sys.modules))
"""


def _imported(services: tuple[str, ...], heavy: tuple[str, ...]) -> list[str]:
    program = _PROGRAM.format(services=services, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.split()


def test_services_that_ask_no_record_start_without_a_database_library() -> None:
    assert _imported(("decomposer", "decoder", "voter", "aggregator"), (*_HEAVY, "sqlalchemy", "asyncpg")) == []


def test_no_service_starts_with_what_computes_or_decodes() -> None:
    assert _imported(("recorder", "reweighter", "gateway"), _HEAVY) == []
    assert _imported(("recorder",), ("sqlalchemy",)) == ["sqlalchemy"], "or this test could not fail"
