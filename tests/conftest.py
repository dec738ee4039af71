"""What holds for every test: a machine that is busy makes none of them fail, and the servers are started once."""

from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

_WITH_SERVERS = "tests/integration/"
# Those that start vLLM, for two of them on one core starve each other, and some that take as long. All others go beside them.
_FIRST = tuple(
    f"{_WITH_SERVERS}test_{each}.py"
    for each in ("crashes", "engine_openai", "engine_vllm", "local_stack", "training_trainer", "whole_pipeline")
)

settings.register_profile("without_time_limits", deadline=None)
settings.load_profile("without_time_limits")


class _ServersInTwoProcesses(LoadScopeScheduling):  # type: ignore[misc]
    """Gives the tests with real servers to two processes, each of which starts them once, and every other test to whoever is free.

    Marks of `xdist_group` would say the same, but xdist 3.8 does not read them under pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_FIRST):
            return "servers, vLLM among them"
        return "servers" if nodeid.startswith(_WITH_SERVERS) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ServersInTwoProcesses:
    """How `make test` shares the tests between its processes."""
    return _ServersInTwoProcesses(config, log)
