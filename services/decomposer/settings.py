"""The decomposer's settings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from conclave.domain.recall.freshness import Freshness
from conclave.runtime.settings import PREFIX

_DAY_S = 86_400.0


class DecomposerSettings(BaseSettings):
    """What the decomposer takes for granted, and what it refuses."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    default_policy: Annotated[str, Field(description="for requests that name none")] = "default"
    prompts_dir: Annotated[Path | None, Field(description="folder of prompt sets besides those that ship")] = None
    policies_dir: Annotated[Path | None, Field(description="folder of policies besides those that ship")] = None
    request_max_age_s: Annotated[float, Field(gt=0, description="of the time inside a request id")] = 7 * _DAY_S
    request_max_ahead_s: Annotated[float, Field(gt=0, description="of the time inside a request id")] = _DAY_S
    router: Annotated[str | None, Field(description="that requests without a policy go through")] = None
    routes_dir: Annotated[Path | None, Field(description="folder of routers besides those that ship")] = None
    effort_file: Annotated[
        Path | None, Field(description="of estimator `learned`, as `conclave effort fit` writes it")
    ] = None
    max_in_flight: Annotated[
        int, Field(ge=1, le=65_536, description="requests read and not begun, or being begun: so far it looks ahead")
    ] = 8192
    open_samples: Annotated[
        int, Field(ge=1, le=1_000_000, description="for each decoder, before requests wait their turn")
    ] = 3072
    interactive_per_minute: Annotated[
        int, Field(ge=0, le=1_000_000, description="requests of one tenant; what is more is standard")
    ] = 600
    tenant_tag: Annotated[str, Field(min_length=1, max_length=256, description="whose value is a request's tenant")] = (
        "tenant"
    )
    conversation_tag: Annotated[
        str,
        Field(min_length=1, max_length=256, description="whose value says which conversation a request is a turn of"),
    ] = "conversation"
    conversation_per_minute: Annotated[
        int, Field(ge=0, le=1_000_000, description="turns of one that are kept on a decoder; what is more is spread")
    ] = 30
    mcp_servers: Annotated[Path | None, Field(description="file of MCP servers whose tools policies may grant")] = None
    postgres_dsn: Annotated[
        str | None,
        Field(pattern="^postgres(ql)?://", repr=False, description="the record, for what goes by it; never waited for"),
    ] = None
    recall: Annotated[
        Literal["off", "exact", "gist"], Field(description="which questions are given answers that were reached before")
    ] = "off"
    recall_lasting_s: Annotated[float, Field(ge=0, description="for which an answer holds")] = 7 * _DAY_S
    recall_perishable_s: Annotated[float, Field(ge=0, description="the same, where the world may have changed")] = 60.0
    recall_patience_ms: Annotated[float, Field(gt=0, le=1000, description="that a request has with the record")] = 20.0
    recall_wait_s: Annotated[float, Field(ge=0, le=60, description="for the answer to an equal question in flight")] = (
        5.0
    )
    recall_front_bytes: Annotated[int, Field(ge=0, description="of answers kept in the process")] = 16 << 20
    recall_eviction: Annotated[Literal["fifo", "lru", "lfu", "gdsf"], Field(description="of those")] = "gdsf"
    recall_epoch: Annotated[str, Field(max_length=64, description="a new one forgets all that was remembered")] = ""

    @property
    def freshness(self) -> Freshness:
        """How long answers hold."""
        return Freshness(self.recall_lasting_s, self.recall_perishable_s)
