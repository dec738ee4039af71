"""What benchmarks are told of NVIDIA cards: by an NVML that plays a machine with two, and by none."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import measuring
from benchmarks.cards import Card, cards, joules_between
from benchmarks.load.arrivals import Level
from benchmarks.load.driving import Asked, Driven
from benchmarks.load.report import sections
from benchmarks.load.watching import Look
from benchmarks.meter import Meter


class NVMLError(Exception):
    """As pynvml has it."""


@dataclass
class Nvml:
    """Plays pynvml: cards that take 1500 mJ from one question for it to the next."""

    NVMLError = NVMLError

    names: tuple[str, ...] = ("NVIDIA H100", "NVIDIA H100")
    has_driver: bool = True
    is_old: bool = False
    millijoules: int = 4_000_000

    def nvmlInit(self) -> None:  # noqa: N802  pynvml's name, and those below
        if not self.has_driver:
            raise NVMLError("library not found")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        return number

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return self.names[handle]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        if self.is_old:
            raise NVMLError("not supported")
        self.millijoules += 1500
        return self.millijoules

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        if self.is_old:
            raise NVMLError("not supported")
        return SimpleNamespace(gpu=93, memory=40)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=2 * 2**30, total=80 * 2**30)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    played = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", played)
    return played


@pytest.fixture
def no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)


def test_cards_tell_their_name_joules_use_and_memory(nvml: Nvml) -> None:
    assert cards() == (
        Card("NVIDIA H100", 4001.5, 0.93, 2048.0),
        Card("NVIDIA H100", 4003.0, 0.93, 2048.0),
    )


def test_what_a_card_does_not_tell_is_left_open(nvml: Nvml) -> None:
    nvml.is_old, nvml.names = True, ("NVIDIA P40",)
    assert cards() == (Card("NVIDIA P40", None, None, 2048.0),)


def test_without_the_package_or_a_driver_there_are_no_cards(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.has_driver = False
    assert cards() == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert cards() == ()


def test_joules_are_told_only_where_every_card_tells_them_and_none_was_set_back() -> None:
    def at(*joules: float | None) -> tuple[Card, ...]:
        return tuple(Card("x", each, None, None) for each in joules)

    assert joules_between(at(1.0, 2.0), at(3.0, 5.0)) == 5.0
    assert joules_between(at(1.0, None), at(3.0, None)) is None
    assert joules_between(at(9.0), at(3.0)) is None
    assert joules_between((), ()) is None


def test_a_meter_tells_joules_of_each_answer_and_what_the_cards_did(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = iter((10.0, 30.0))
    monkeypatch.setattr("benchmarks.meter.joules", lambda: next(processor))
    with Meter(every_s=1000.0) as meter:
        pass
    card = {
        "name": "NVIDIA H100",
        "use_mean": 0.93,
        "use_deviation": 0.0,
        "memory_mib_mean": 2048.0,
        "memory_mib_most": 2048.0,
    }
    # Each card was read twice, and both take 1.5 J from one question to the next: 3 J each between a card's two.
    assert meter.told(4) == {"processor_joules_each": 5.0, "card_joules_each": 6.0 / 4, "cards": [card, card]}


@pytest.mark.usefixtures("no_nvml")
def test_a_meter_tells_nothing_where_the_machine_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.meter.joules", lambda: None)
    with Meter() as meter:
        pass
    assert meter.told(4) == {}


def test_a_record_names_the_cards_of_the_machine(nvml: Nvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measuring, "_RESULTS", tmp_path)

    def hardware() -> dict[str, object]:
        told: dict[str, dict[str, object]] = json.loads(measuring.record("some", {}).read_text())
        return told["hardware"]

    assert hardware()["gpu"] == "2 × NVIDIA H100"
    nvml.names = ("NVIDIA H200",)
    assert hardware()["gpu"] == "NVIDIA H200"
    nvml.has_driver = False
    assert "gpu" not in hardware()


def test_the_report_of_a_load_tells_joules_of_cards_for_each_answer_and_their_use_memory_and_watts_over_time() -> None:
    level = Level(clients=1)
    asked = [Asked(f"{number}", level, 100.0 + number, 100.5 + number, True, 4, 80) for number in range(10)]
    looks = [
        Look(100.0 + second, {}, {}, {}, None, None, None, (Card("H100", 300.0 * second, 0.5, 1000.0 + second),))
        for second in range(10)
    ]
    told = {section.title: section for section in sections(Driven(asked), {}, [], looks)}
    columns, row = told["By load"].columns, told["By load"].rows[0]
    assert dict(zip(columns, row, strict=True))["cards J each"] == "270.0"
    assert dict(zip(columns, row, strict=True))["processor J each"] == ""
    assert told["Cards, %"].rows == (("0: H100", "50.0 ± 0.0", "50"),)
    assert told["Cards, MiB"].rows == (("0: H100", "1005.0 ± 2.6", "1009"),)
    assert told["Cards, W"].rows == (("0: H100", "300.0 ± 0.0", "300"),)
