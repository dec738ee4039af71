"""The decoder's settings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from conclave.domain.priorities import PRIORITIES
from conclave.engine import ENGINES, EngineOptions
from conclave.engine.pace import Pace
from conclave.runtime.settings import PREFIX


class DecoderSettings(BaseSettings):
    """Which engine decodes, on which model, and how full it is kept."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    engine: Annotated[str, Field(description="a row of conclave.engine.ENGINES")] = "vllm"
    model: Annotated[str, Field(min_length=1, description="folder or Hugging Face id; the model's name on a server")]
    max_running: Annotated[int, Field(ge=1, le=65_536, description="sequences that the engine runs at once")] = 64
    min_running: Annotated[
        int | None,
        Field(
            ge=1,
            le=65_536,
            description="at least; from there to MAX_RUNNING by the engine's pressure. Default: MAX_RUNNING",
        ),
    ] = None
    max_in_flight: Annotated[
        int, Field(ge=1, le=65_536, description="samples read and not ended: those that run, and those that wait")
    ] = 4096
    priority_weights: Annotated[
        dict[str, float], NoDecode, Field(description="class=weight,…, of the classes whose shares are others")
    ] = {}
    kv_cache_use_limit: Annotated[float, Field(gt=0, le=1, description="of the KV cache: nothing new above it")] = 0.95
    max_model_len: Annotated[int | None, Field(ge=16, description="tokens; default: the model's own")] = None
    prompts_dir: Annotated[Path | None, Field(description="folder of prompt sets besides those that ship")] = None
    postgres_dsn: Annotated[
        str | None,
        Field(pattern="^postgres(ql)?://", repr=False, description="an operator's documents; never waited for"),
    ] = None
    mcp_servers: Annotated[Path | None, Field(description="file of MCP servers whose tools paths may call")] = None
    openai_base_url: str = ""
    openai_api_key: SecretStr = SecretStr("")
    openai_server: Annotated[
        Literal["", "vllm", "sglang", "llamacpp"],
        Field(description="what kind of server it is, for paths with tools; default: as the models that it lists say"),
    ] = ""
    server_pause_s: Annotated[
        float,
        Field(gt=0, le=60, description="shortest pause before a model server that is away or busy is called again"),
    ] = 0.1
    server_max_pause_s: Annotated[float, Field(gt=0, le=3600, description="longest such pause")] = 1.0
    server_recheck_s: Annotated[
        float, Field(gt=0, le=86_400, description="longest pause while a setting or an account is at fault")
    ] = 30.0
    server_max_told_pause_s: Annotated[
        float,
        Field(gt=0, le=86_400, description="of Retry-After and rate limits: called again after this at the latest"),
    ] = 300.0
    server_silence_s: Annotated[
        float,
        Field(
            gt=0,
            le=86_400,
            description="a call that hears nothing from a model server for so long comes again; vLLM in process is replaced",
        ),
    ] = 300.0
    scripted_latency_ms: Annotated[float, Field(ge=0)] = 5.0
    scripted_accuracy: Annotated[float, Field(ge=0, le=1)] = 0.7
    scripted_journal: str = ""

    @field_validator("priority_weights", mode="before")
    @classmethod
    def _are_weights(cls, said: object) -> object:
        """Shares as they are said: `interactive=16,batch=0.5`."""
        if not isinstance(said, str):
            return said
        pairs = dict(each.strip().partition("=")[::2] for each in said.split(",") if each.strip())
        expected = f"class=weight,… of {', '.join(PRIORITIES)}, weights above 0"
        try:
            weights = {name: float(weight) for name, weight in pairs.items()}
        except ValueError:
            raise ValueError(expected) from None
        if any(name not in PRIORITIES or not 0 < weight <= 1e6 for name, weight in weights.items()):
            raise ValueError(expected)
        return weights

    @field_validator("engine")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in ENGINES:
            raise ValueError(f"one of {', '.join(ENGINES)}")
        return name

    def options(self) -> EngineOptions:
        """What the engine is made from."""
        return EngineOptions(
            model=self.model,
            max_running=self.max_running,
            kv_cache_use_limit=self.kv_cache_use_limit,
            max_model_len=self.max_model_len,
            openai_base_url=self.openai_base_url,
            openai_api_key=self.openai_api_key.get_secret_value(),
            openai_server=self.openai_server,
            pace=Pace(
                shortest_pause_s=self.server_pause_s,
                longest_pause_s=self.server_max_pause_s,
                longest_recheck_s=self.server_recheck_s,
                longest_told_s=self.server_max_told_pause_s,
                silence_s=self.server_silence_s,
            ),
            scripted_latency_ms=self.scripted_latency_ms,
            scripted_accuracy=self.scripted_accuracy,
            scripted_journal=self.scripted_journal,
        )
