"""What holds for every test: a machine that is busy makes none of them fail, and the servers are started once."""

from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

_WITH_SERVERS = "tests/integration/"

settings.register_profile("without_time_limits", deadline=None)
settings.load_profile("without_time_limits")


class _ServersInOneProcess(LoadScopeScheduling):  # type: ignore[misc]
    """Gives all tests with real servers to one process, which starts them once, and every other test to whoever is free.

    Marks of `xdist_group` would say the same, but xdist 3.8 does not read them under pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _WITH_SERVERS if nodeid.startswith(_WITH_SERVERS) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ServersInOneProcess:
    """How `make test` shares the tests between its processes."""
    return _ServersInOneProcess(config, log)
