"""`conclave feedback`, `experiment`, `calibrate` and `erase`: what is wrong is said before anything is published or changed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from conclave.cli import group
from conclave.testing import events as made

GOOD = """
control = "a"
[arms.a]
policy = "default"
[arms.b]
policy = "single"
"""


def _run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(group, list(arguments), env={"CONCLAVE_BOOTSTRAP_SERVERS": "127.0.0.1:1", **environment})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("not-an-id", "1"), "expected a UUIDv7"),
        ((made.REQUEST_ID,), "must be given"),
        ((made.REQUEST_ID, "2"), "range"),
        ((made.REQUEST_ID, "--rating", "9", "--scale", "5"), "`rating` must lie between 1 and 5"),
        ((made.REQUEST_ID, "1", "--path", "3"), "`step_index` must be given"),
        ((made.REQUEST_ID, "1", "--step", "-1"), "$.step_index"),
        ((made.REQUEST_ID, "--chosen", "a"), "`chosen` and `rejected` must be given together"),
        ((made.REQUEST_ID, "1", "--rater", "robot"), "robot"),
    ],
)
def test_feedback_that_can_not_be_is_refused_with_what_was_expected(arguments: tuple[str, ...], told: str) -> None:
    result = _run("feedback", *arguments)
    assert result.exit_code == 2
    assert told in result.output


def test_experiments_of_files_are_listed_shown_and_checked(tmp_path: Path) -> None:
    (tmp_path / "trial.toml").write_text(GOOD)
    folder = {"CONCLAVE_EXPERIMENTS_DIR": str(tmp_path)}
    listed = json.loads(_run("experiment", "list", "--files", "--json", **folder).output)
    assert {row["name"]: row["state"] for row in listed}["trial"] == "never started"
    shown = json.loads(_run("experiment", "show", "trial", **folder).output)
    assert shown["arms"]["b"]["policy"] == "single@1"
    assert shown["digest"]
    assert "all sound" in _run("experiment", "check", **folder).output
    (tmp_path / "trial.toml").write_text(GOOD.replace("single", "clever"))
    for command in (("check",), ("start", "trial", "--why", "to see")):
        result = _run("experiment", *command, **folder)
        assert result.exit_code != 0 or command == ("check",)
        assert "arms.b.policy" in result.output
    assert "no experiment 'other'" in _run("experiment", "show", "other").output


def test_a_change_says_why() -> None:
    for command in (("start", "trial"), ("kill", "trial"), ("promote", "trial", "a")):
        assert "--why" in _run("experiment", *command).output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("erase", "x"), "expected UUIDv7s"),
        (("erase", "--tag", "ann"), "expected --tag NAME=VALUE"),
        (("calibrate", "clever"), "no policy 'clever'"),
        (("calibrate", "default", "--ask", "other"), "no policy 'default' with an ask 'other'"),
    ],
)
def test_what_there_is_nothing_to_do_with_is_said(arguments: tuple[str, ...], told: str) -> None:
    result = _run(*arguments, CONCLAVE_POSTGRES_DSN="postgresql://nobody@127.0.0.1:1/none")
    assert result.exit_code != 0
    assert told in result.output
