"""docs/operations.md tells an operator of every setting that there is, and of none that there isn't."""

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from conclave.prepare import PrepareSettings
from conclave.runtime.settings import RuntimeSettings
from services.aggregator.settings import AggregatorSettings
from services.decoder.settings import DecoderSettings
from services.decomposer.settings import DecomposerSettings
from services.gateway.settings import GatewaySettings
from services.recorder.settings import RecorderSettings
from services.reweighter.settings import ReweighterSettings
from services.tools.settings import ToolsSettings
from services.voter.settings import VoterSettings

_CHECKOUT = Path(__file__).resolve().parents[2]
_SETTINGS: dict[str, type[BaseSettings]] = {
    "all": RuntimeSettings,
    "decomposer": DecomposerSettings,
    "decoder": DecoderSettings,
    "voter": VoterSettings,
    "aggregator": AggregatorSettings,
    "recorder": RecorderSettings,
    "reweighter": ReweighterSettings,
    "tools": ToolsSettings,
    "gateway": GatewaySettings,
    "conclave prepare": PrepareSettings,
}


def _owners() -> dict[str, set[str]]:
    """Whose each setting is, by the first and the third column of the table of settings."""
    text = (_CHECKOUT / "docs" / "operations.md").read_text()
    table = text[text.index("| setting") :].partition("\n\n")[0]
    rows = [row.split("|") for row in table.splitlines()[2:]]
    return {
        name: set(row[3].replace("`", "").strip().split(", "))
        for row in rows
        for name in re.findall(r"`([A-Z_]+)`", row[1])
    }


def _told() -> set[str]:
    return set(_owners())


def test_every_service_has_its_settings_here() -> None:
    services = {folder.parent.name for folder in (_CHECKOUT / "services").glob("*/settings.py")}
    assert services == set(_SETTINGS) - {"all", "conclave prepare"}


@pytest.mark.parametrize("owner", _SETTINGS)
def test_every_setting_is_told_of(owner: str) -> None:
    assert {name.upper() for name in _SETTINGS[owner].model_fields} <= _told()


def test_nothing_is_told_of_that_is_no_setting() -> None:
    assert _told() <= {name.upper() for settings in _SETTINGS.values() for name in settings.model_fields}


@pytest.mark.parametrize("owner", sorted(set(_SETTINGS) - {"all"}))
def test_a_service_s_own_settings_are_told_to_be_its_own(owner: str) -> None:
    own = {name.upper() for name in set(_SETTINGS[owner].model_fields) - set(RuntimeSettings.model_fields)}
    assert [name for name in sorted(own) if not {owner, "all"} & _owners()[name]] == []


def test_nobody_is_told_of_a_service_that_there_is_not() -> None:
    told = {each for owners in _owners().values() for each in owners}
    assert {each for each in told if not each.startswith("conclave ")} <= set(_SETTINGS)
