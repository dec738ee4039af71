"""A policy that is written is the policy that is read back."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from conclave.policies import load, shipped
from conclave.policies.writing import as_toml


@pytest.mark.parametrize("name", shipped().names)
def test_every_policy_that_ships_can_be_written_and_read_back(name: str, tmp_path: Path) -> None:
    policy = shipped().find(name)
    assert policy is not None
    asks = {
        each: replace(ask, vote_weights=(0.05, 1.0, 1.25e-05), calibration=(0.0, 0.1 + 0.2))
        for each, ask in policy.asks.items()
    }
    written = replace(policy, version=policy.version + 1, asks=asks)
    (tmp_path / f"{name}@{written.version}.toml").write_text(as_toml(written, 'what "it" is\nfor'))
    found, problems = load(tmp_path)
    assert problems == []
    read = next(row for row in found if row.policy.name == name and row.policy.version == written.version)
    assert replace(read.policy, digest=policy.digest) == written
    assert read.about == 'what "it" is\nfor'
