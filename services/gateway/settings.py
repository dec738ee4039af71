"""The gateway's settings."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from conclave.domain.redaction import DEFAULT_MASKS, MASKS
from conclave.masking.settings import PresidioSettings
from conclave.runtime.settings import PREFIX


class GatewaySettings(PresidioSettings):
    """Where the gateway listens, and what it takes from a client at most."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    postgres_dsn: Annotated[
        str, Field(pattern="^postgres(ql)?://", repr=False, description="postgresql://user@host/db")
    ]
    retention_days: Annotated[int, Field(ge=1, le=36_500, description="of the record, and of who asked what")] = 90
    default_policy: Annotated[str, Field(description="for requests that name none")] = "default"
    prompts_dir: Annotated[Path | None, Field(description="folder of prompt sets besides those that ship")] = None
    policies_dir: Annotated[Path | None, Field(description="folder of policies besides those that ship")] = None
    gateway_host: str = "127.0.0.1"
    gateway_port: Annotated[int, Field(ge=0, le=65535, description="0: any free one")] = 8642
    gateway_secure_cookie: Annotated[
        Literal["auto", "always", "never"],
        Field(
            description="browsers send the pages' cookie over TLS only; auto: unless it is for the loopback interface"
        ),
    ] = "auto"
    gateway_masks: Annotated[
        tuple[str, ...], NoDecode, Field(description="what is masked in what clients send, separated by commas")
    ] = DEFAULT_MASKS
    gateway_max_body_bytes: Annotated[int, Field(ge=1024, le=2**30)] = 2**20
    gateway_max_file_bytes: Annotated[int, Field(ge=1024, le=2**30, description="of a file of requests")] = 32 * 2**20
    gateway_max_tenant_file_bytes: Annotated[
        int, Field(ge=1024, le=2**50, description="of a tenant's files, and of its batches until they are over")
    ] = 2**30
    gateway_batch_open: Annotated[
        int, Field(ge=1, le=100_000, description="requests of batches that are open at once, in all batches")
    ] = 64
    gateway_max_header_bytes: Annotated[int, Field(ge=1024, le=2**20)] = 32 * 1024
    gateway_max_headers: Annotated[int, Field(ge=10, le=10_000)] = 100
    gateway_client_timeout_s: Annotated[
        float, Field(gt=0, description="for a client to send, or to take, the next part")
    ] = 20.0
    gateway_max_waiting: Annotated[int, Field(ge=1, le=1_000_000, description="for answers, at once")] = 1000
    gateway_max_connections: Annotated[int, Field(ge=1, le=100_000)] = 2000

    @field_validator("gateway_masks", mode="before")
    @classmethod
    def _split_masks(cls, names: object) -> object:
        return tuple(name.strip() for name in names.split(",") if name.strip()) if isinstance(names, str) else names

    @field_validator("gateway_masks")
    @classmethod
    def _check(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(names) - set(MASKS))
        if unknown:
            raise ValueError(f"any of {', '.join(MASKS)}, not {', '.join(unknown)}")
        return names
