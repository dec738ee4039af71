"""The reweighter's settings."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from conclave.runtime.settings import PREFIX


class ReweighterSettings(BaseSettings):
    """Where the record is, and how often it is looked at."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    postgres_dsn: Annotated[
        str, Field(pattern="^postgres(ql)?://", repr=False, description="postgresql://user@host/db")
    ]
    reweighter_interval_s: Annotated[float, Field(gt=0, le=86_400, description="between two looks at the record")] = (
        10.0
    )
