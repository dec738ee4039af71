"""The aggregator's settings."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from conclave.runtime.settings import PREFIX


class AggregatorSettings(BaseSettings):
    """How long the aggregator waits for verdicts that are late."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    # After a request's deadline, for verdicts under way; more than the voter's.
    aggregator_grace_s: Annotated[float, Field(ge=0)] = 5.0
    # Before verdicts without a plan are dead-lettered, and closed plans are forgotten.
    aggregator_orphan_s: Annotated[float, Field(gt=0)] = 7200.0
