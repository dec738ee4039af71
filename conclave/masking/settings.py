"""Which maskers there are: CONCLAVE_PRESIDIO_<NAME>, for the gateway and the commands that write the record out."""

from typing import Annotated

from pydantic import Field, FilePath, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from conclave.domain.redaction import Mask
from conclave.runtime.settings import PREFIX


class PresidioSettings(BaseSettings):
    """What Presidio is to mask. It finds nothing unless entities are named: names of persons are what many questions are about."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    presidio_entities: Annotated[
        tuple[str, ...], NoDecode, Field(description="what Presidio masks, in its own words, separated by commas")
    ] = ()
    presidio_config: Annotated[FilePath | None, Field(description="an analyzer as Presidio describes it, YAML")] = None
    presidio_language: str = "en"
    presidio_score: Annotated[float, Field(ge=0, le=1, description="how sure it must be of what it masks")] = 0.5

    @field_validator("presidio_entities", mode="before")
    @classmethod
    def _split(cls, names: object) -> object:
        return tuple(name.strip() for name in names.split(",") if name.strip()) if isinstance(names, str) else names

    def after(self, mask: Mask) -> Mask:
        """What masks by `mask` and then by Presidio; `mask` itself where nothing is asked of Presidio. Raises: Misconfigured."""
        if not self.presidio_entities:
            return mask
        from conclave.masking.presidio import analyzer, by_presidio

        found = by_presidio(
            analyzer(self.presidio_config, self.presidio_entities, self.presidio_language),
            self.presidio_entities,
            language=self.presidio_language,
            score=self.presidio_score,
        )
        return lambda text: found(mask(text))
