"""`CONCLAVE_EXTENSIONS`: rows of an operator's own in the tables, before anything is looked up."""

import sys
from pathlib import Path

import pytest

from conclave.engine import ENGINES
from conclave.errors import Misconfigured
from conclave.extensions import load_extensions
from conclave.runtime.settings import RuntimeSettings, load
from services.decoder.settings import DecoderSettings


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCLAVE_BOOTSTRAP_SERVERS", "broker:9092")
    monkeypatch.setenv("CONCLAVE_MODEL", "a-model")


@pytest.mark.parametrize(
    ("written", "names"), [("", ()), ("mine", ("mine",)), (" mine, ours.rules ,", ("mine", "ours.rules"))]
)
def test_they_are_named_with_commas_between(
    written: str, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCLAVE_EXTENSIONS", written)
    assert load(RuntimeSettings).extensions == names


def test_an_engine_of_an_operators_own_can_be_chosen_once_its_module_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCLAVE_ENGINE", "mine")
    with pytest.raises(Misconfigured, match=r"CONCLAVE_ENGINE: expected .*one of vllm, openai, scripted, got 'mine'"):
        load(DecoderSettings)
    (tmp_path / "an_operators_engine.py").write_text(
        "from conclave.engine import ENGINES\nENGINES['mine'] = ENGINES['scripted']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        load_extensions(("an_operators_engine",))
        assert load(DecoderSettings).engine == "mine"
    finally:
        del ENGINES["mine"], sys.modules["an_operators_engine"]


def test_all_that_cannot_be_imported_are_named() -> None:
    with pytest.raises(Misconfigured) as raised:
        load_extensions(("no_such_module", "json", "json.nor_this"))
    assert [setting.got for setting in raised.value.settings] == [
        "no_such_module: No module named 'no_such_module'",
        "json.nor_this: No module named 'json.nor_this'",
    ]
