"""The settings of the service `tools`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from conclave.runtime.settings import PREFIX


class ToolsSettings(BaseSettings):
    """Where its ledger is, and which tools it calls."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    postgres_dsn: Annotated[
        str, Field(pattern="^postgres(ql)?://", repr=False, description="postgresql://user@host/db")
    ]
    mcp_servers: Annotated[
        Path | None, Field(description="file of MCP servers, of which those with effects are its own")
    ] = None
