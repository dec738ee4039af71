"""The recorder's settings."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from conclave.runtime.settings import PREFIX


class RecorderSettings(BaseSettings):
    """Where the record is kept, and for how long."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    postgres_dsn: Annotated[
        str, Field(pattern="^postgres(ql)?://", repr=False, description="postgresql://user@host/db")
    ]
    partitions_ahead_days: Annotated[int, Field(ge=1, le=366)] = 2
    retention_days: Annotated[int, Field(ge=1, le=36_500)] = 90
