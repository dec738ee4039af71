"""Model engines behind one protocol. `ENGINES` names them; what is heavy to import waits inside its factory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from conclave.engine.pace import Pace

if TYPE_CHECKING:  # what looks up a name in the table needs nothing that an engine needs
    from conclave.engine.protocol import Engine


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine is made from; each uses what concerns it."""

    model: str
    max_running: int = 64
    kv_cache_use_limit: float = 0.95
    max_model_len: int | None = None
    openai_base_url: str = ""
    openai_api_key: str = ""
    openai_server: str = ""
    pace: Pace = field(default_factory=Pace)
    scripted_latency_ms: float = 5.0
    scripted_accuracy: float = 0.7
    scripted_journal: str = ""


def _vllm(options: EngineOptions) -> "Engine":
    from conclave.engine.vllm.engine import VllmEngine

    return VllmEngine(
        options.model,
        max_running=options.max_running,
        max_model_len=options.max_model_len,
        silence_s=options.pace.silence_s,
    )


def _openai(options: EngineOptions) -> "Engine":
    from conclave.engine.openai_engine import OpenAIEngine

    return OpenAIEngine(
        options.model,
        options.openai_base_url,
        api_key=options.openai_api_key,
        max_running=options.max_running,
        server=options.openai_server,
        pace=options.pace,
    )


def _scripted(options: EngineOptions) -> "Engine":
    from conclave.engine.scripted import ScriptedEngine

    return ScriptedEngine(
        latency_ms=options.scripted_latency_ms,
        accuracy=options.scripted_accuracy,
        max_running=options.max_running,
        journal=options.scripted_journal,
    )


ENGINES: dict[str, "Callable[[EngineOptions], Engine]"] = {
    "vllm": _vllm,
    "openai": _openai,
    "scripted": _scripted,
}
