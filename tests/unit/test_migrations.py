"""Migrations are a chain: each has a number of its own, its file's, and comes after the one before."""

import importlib
from pathlib import Path

_VERSIONS = Path(__file__).resolve().parents[2] / "migrations" / "versions"


def test_migrations_are_numbered_on_without_a_gap_or_a_fork() -> None:
    names = sorted(path.stem for path in _VERSIONS.glob("[0-9]*.py"))
    modules = [importlib.import_module(f"migrations.versions.{name}") for name in names]
    numbers = [f"{number:04}" for number in range(1, len(names) + 1)]
    assert [name.partition("_")[0] for name in names] == numbers
    assert [module.revision for module in modules] == numbers
    assert [module.down_revision for module in modules] == [None, *numbers[:-1]]
