"""`conclave prepare` before it reaches a server: its settings."""

import pytest

from conclave.cli import main


def test_wrong_settings_are_listed_all_together_with_exit_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CONCLAVE_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("CONCLAVE_POSTGRES_DSN", "mysql://somewhere")
    monkeypatch.setenv("CONCLAVE_TOPIC_REPLICATION", "0")
    with pytest.raises(SystemExit) as ended:
        main(["prepare"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    for name in ("BOOTSTRAP_SERVERS", "POSTGRES_DSN", "TOPIC_REPLICATION"):
        assert f"CONCLAVE_{name}: expected" in said
