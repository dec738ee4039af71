"""The decomposer's settings."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from conclave.domain.policies import POLICIES
from conclave.runtime.settings import PREFIX

_DAY_S = 86_400.0


class DecomposerSettings(BaseSettings):
    """What the decomposer takes for granted, and what it refuses."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    default_policy: Annotated[str, Field(description="for requests that name none")] = "default"
    request_max_age_s: Annotated[float, Field(gt=0, description="of the time inside a request id")] = 7 * _DAY_S
    request_max_ahead_s: Annotated[float, Field(gt=0, description="of the time inside a request id")] = _DAY_S

    @field_validator("default_policy")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in POLICIES:
            raise ValueError(f"one of {', '.join(POLICIES)}")
        return name
