"""What commands say of what they can't do: the option and what was expected of it, exit status 2, and no traceback."""

from collections.abc import Sequence

import pytest
from click.testing import CliRunner, Result

from conclave.cli import group

REQUEST = "0193b2c8-0000-7000-8000-000000000000"
AWAY = {
    "CONCLAVE_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "CONCLAVE_POSTGRES_DSN": "postgresql+asyncpg://conclave@127.0.0.1:1/conclave",
}
CAPACITY = ["capacity", "--rate", "1"]


def run(arguments: Sequence[str]) -> Result:
    return CliRunner().invoke(group, list(arguments), env=AWAY, catch_exceptions=False, standalone_mode=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["capacity", "--rate", "nan"],
        ["capacity", "--rate", "inf"],
        *([*CAPACITY, "--gpu", "h100", option, "nan"] for option in ("--tokens", "--spread", "--parameters", "--kv-kib")),
        *([*CAPACITY, "--gpu", "h100", option, "-1"] for option in ("--tokens", "--spread", "--weight-bytes", "--prompt-tokens")),
        *([*CAPACITY, "--gpu", "h100", option, "0"] for option in ("--tokens", "--parameters", "--kv-kib", "--weight-bytes")),
        *([*CAPACITY, "--tokens-per-s", value] for value in ("0", "-4", "nan")),
        *(["calibrate", "default", "--days", value] for value in ("nan", "-3", "0", "1e12")),
        *(["calibrate", "default", "--at-most-wrong", "0.1", "--risk", value] for value in ("0", "1", "7", "nan")),
        ["calibrate", "default", "--at-most-wrong", "nan"],
        ["ask", "1 + 1?", "--deadline", "nan"],
        ["ask", "1 + 1?", "--max-age", "nan"],
        ["compare", "1 + 1?", "--policy", "default", "--deadline", "nan"],
        ["fork", REQUEST, "--policy", "default", "--deadline", "nan"],
        ["feedback", REQUEST, "nan"],
        ["feedback", REQUEST, "--scale", "5", "--rating", "nan"],
        ["routes", "explain", "1 + 1?", "--pressure", "nan"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_amount_that_is_none_is_refused_by_the_name_of_its_option(arguments: list[str]) -> None:
    refused = run(arguments)
    named = "REWARD" if arguments[0] == "feedback" and len(arguments) == 3 else arguments[-2]
    assert (refused.exit_code, named in refused.output) == (2, True), refused.output


@pytest.mark.parametrize("option", ["--principal", "--producer", "--operator"])
@pytest.mark.parametrize("principal", ["", "ann", "User:", ":ann"])
def test_rights_are_for_somebody_whom_brokers_can_know(option: str, principal: str) -> None:
    refused = run(["acls", option, principal])
    assert (refused.exit_code, "expected TYPE:NAME" in refused.output) == (2, True), refused.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["erase"], "give REQUEST_IDS, --tag NAME=VALUE, or both"),
        (["compare", "1 + 1?", "--policy", " , "], "--policy: expected one or more names"),
        ([*CAPACITY, "--costs", "nowhere.json"], "File 'nowhere.json' does not exist"),
    ],
)
def test_what_is_missing_is_named(arguments: list[str], expected: str) -> None:
    refused = run(arguments)
    assert (refused.exit_code, expected in refused.output) == (2, True), refused.output
