"""What holds for every test: a machine that is busy makes none of them fail, and the servers are started once."""

from pathlib import Path

import pytest
from hypothesis import settings

_WITH_SERVERS = Path(__file__).parent / "integration"

settings.register_profile("without_time_limits", deadline=None)
settings.load_profile("without_time_limits")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` shares the tests between two processes: those with real servers all go to one, which starts them once."""
    for item in items:
        if item.path.is_relative_to(_WITH_SERVERS):
            item.add_marker(pytest.mark.xdist_group("servers"))
