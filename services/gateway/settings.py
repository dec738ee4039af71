"""The gateway's settings."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from conclave.runtime.settings import PREFIX


class GatewaySettings(BaseSettings):
    """Where the gateway listens, and what it takes from a client at most."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    postgres_dsn: Annotated[
        str, Field(pattern="^postgres(ql)?://", repr=False, description="postgresql://user@host/db")
    ]
    gateway_host: str = "127.0.0.1"
    gateway_port: Annotated[int, Field(ge=0, le=65535, description="0: any free one")] = 8642
    gateway_max_body_bytes: Annotated[int, Field(ge=1024, le=2**30)] = 2**20
    gateway_max_header_bytes: Annotated[int, Field(ge=1024, le=2**20)] = 32 * 1024
    gateway_max_headers: Annotated[int, Field(ge=10, le=10_000)] = 100
    gateway_client_timeout_s: Annotated[
        float, Field(gt=0, description="for a client to send, or to take, the next part")
    ] = 20.0
    gateway_max_connections: Annotated[int, Field(ge=1, le=100_000)] = 2000
