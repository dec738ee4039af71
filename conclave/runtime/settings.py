"""Settings that every service has, read from the environment: CONCLAVE_<NAME>."""

from typing import Annotated, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from conclave.errors import Misconfigured, WrongSetting
from conclave.extensions import named_in
from conclave.runtime.brokers import BrokerSettings
from conclave.runtime.tracker import MAX_SPAN

S = TypeVar("S", bound=BaseSettings)
PREFIX = "CONCLAVE_"


class RuntimeSettings(BrokerSettings):
    """How a service runs; what it does has settings of its own, in its folder."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    instance_id: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9._-]{0,200}$",
            description="of this replica, and of no other that lives: whoever starts with it next takes its partitions over",
        ),
    ] = ""
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535, description="of /live, /ready and /metrics; 0: any free one")] = 0
    max_in_flight: Annotated[int, Field(ge=1, le=65_536, description="messages being handled at once")] = 256
    max_in_flight_mib: Annotated[
        int, Field(ge=1, le=65_536, description="MiB of those messages: no more are read above it")
    ] = 64
    max_attempts: Annotated[int, Field(ge=1, le=100, description="before a message is dead-lettered")] = 4
    retry_backoff_s: Annotated[float, Field(gt=0, le=600)] = 0.2
    drain_s: Annotated[float, Field(ge=0, le=3600, description="for all of a stop, after SIGTERM")] = 15.0
    session_timeout_ms: Annotated[int, Field(ge=1000, le=300_000)] = 15_000
    max_poll_interval_ms: Annotated[int, Field(ge=10_000)] = 600_000
    duplicate_window: Annotated[int, Field(ge=0, le=1_000_000, description="records of a partition, for ids seen")] = (
        10_000
    )
    carry_after_s: Annotated[
        float, Field(gt=0, description="an open group this old is carried when the span is half full")
    ] = 5.0
    extensions: Annotated[
        tuple[str, ...], NoDecode, Field(description="modules to import first, separated by commas")
    ] = ()
    carry_span: Annotated[int, Field(ge=1, le=MAX_SPAN, description="offsets beyond the watermark: half full")] = (
        MAX_SPAN // 2
    )
    log_level: Annotated[str, Field(pattern="(?i)^(debug|info|warning|error|critical)$")] = "info"
    log_format: Annotated[str, Field(pattern="^(json|console)$")] = "json"

    @field_validator("extensions", mode="before")
    @classmethod
    def _split(cls, names: object) -> object:
        return named_in(names) if isinstance(names, str) else names


def load(settings: type[S]) -> S:
    """The settings, from the environment. Raises: Misconfigured, listing every wrong one."""
    try:
        return settings()
    except ValidationError as error:
        wrong = [
            WrongSetting(
                name=PREFIX + ".".join(str(part) for part in row["loc"]).upper(),
                expected=row["msg"],
                got=_shown(settings, row),
            )
            for row in error.errors(include_context=False)
        ]
        raise Misconfigured(wrong) from None


def _shown(settings: type[BaseSettings], row: ErrorDetails) -> str | None:
    """What a setting was; nothing of one that is not to be seen."""
    if row["type"] == "missing":
        return None
    field = settings.model_fields.get(str(row["loc"][0])) if row["loc"] else None
    return str(row["input"])[:100] if field is None or field.repr else "(not shown)"
