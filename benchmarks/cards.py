"""What NVIDIA cards say of themselves by NVML: nothing without a card, or `nvidia-ml-py`, which vLLM for GPUs brings."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Card:
    """A card at a moment. None: it does not tell."""

    name: str
    joules: float | None  # since its driver was loaded
    use: float | None  # the share of its last sampling period, up to a second, in which anything ran on it
    memory_mib: float | None  # that is given out, to whichever process


def cards() -> tuple[Card, ...]:
    """Every card of this machine, as it is now."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return ()
    try:
        nvml.nvmlInit()  # counted: all but the first cost nothing
        return tuple(_card(nvml, nvml.nvmlDeviceGetHandleByIndex(at)) for at in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError:  # no driver, or none of these cards
        return ()


def _card(nvml: Any, handle: object) -> Card:
    def told(ask: Callable[[], float]) -> float | None:
        try:
            return ask()
        except nvml.NVMLError:  # joules before Volta; use of a card that is divided
            return None

    return Card(
        nvml.nvmlDeviceGetName(handle),
        told(lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3),
        told(lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100),
        told(lambda: float(nvml.nvmlDeviceGetMemoryInfo(handle).used) / 2**20),
    )


def joules_between(before: tuple[Card, ...], after: tuple[Card, ...]) -> float | None:
    """Joules of all cards together; None where one does not tell, or was set back."""
    pairs = [(first.joules, last.joules) for first, last in zip(before, after, strict=False)]
    spent = [last - first for first, last in pairs if first is not None and last is not None and last >= first]
    return sum(spent) if pairs and len(spent) == len(pairs) else None
