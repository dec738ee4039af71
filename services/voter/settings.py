"""The voter's settings."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from conclave.runtime.settings import PREFIX


class VoterSettings(BaseSettings):
    """How long the voter waits for paths that are late, and for its judges."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    # After a step's deadline, for what its decoders still report; less than the aggregator's.
    voter_grace_s: Annotated[float, Field(ge=0)] = 2.0
    # After a step's deadline, before a decided step forgets samples that never reported.
    voter_orphan_s: Annotated[float, Field(gt=0)] = 3600.0
    # CPU time that a judge has for two formulas (equivalence `math`), before they count as different; and how many judges.
    voter_judge_limit_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    voter_judges: Annotated[int, Field(ge=1, le=64)] = 1
