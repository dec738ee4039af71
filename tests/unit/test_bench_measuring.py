"""What a result says of where it was measured."""

from pathlib import Path

import pytest

from benchmarks import measuring


def test_where_only_the_files_of_a_commit_are_the_environment_says_which_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEASURED_COMMIT", "abc1234")
    assert measuring.commit() == "abc1234"


def test_a_result_is_written_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MEASURED_COMMIT", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(measuring, "_RESULTS", tmp_path / "results")
    path = measuring.record("some", {"figure": 1})
    assert path == measuring.result_path("some")
    assert '"commit": ""' in path.read_text()
