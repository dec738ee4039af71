"""Where brokers are and how they are spoken to: in the clear or over TLS, and as whom. CONCLAVE_KAFKA_<NAME> in the environment."""

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, FilePath, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from conclave.errors import Misconfigured, WrongSetting


class Security(StrEnum):
    """How a connection to a broker is protected, in Kafka's words."""

    PLAINTEXT = "plaintext"
    SSL = "ssl"
    SASL_PLAINTEXT = "sasl_plaintext"
    SASL_SSL = "sasl_ssl"

    @property
    def has_tls(self) -> bool:
        """True where nobody on the way can read it."""
        return self in (Security.SSL, Security.SASL_SSL)

    @property
    def has_sasl(self) -> bool:
        """True where the broker asks who connects."""
        return self in (Security.SASL_PLAINTEXT, Security.SASL_SSL)


class Mechanism(StrEnum):
    """How a name and a password are shown to a broker."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


class Compression(StrEnum):
    """How batches of records are compressed by who publishes them, in Kafka's words."""

    NONE = "none"
    LZ4 = "lz4"
    SNAPPY = "snappy"
    ZSTD = "zstd"
    GZIP = "gzip"


@dataclass(frozen=True, slots=True)
class Brokers:
    """Brokers of one cluster, and how to speak to them; as a text, where they are."""

    servers: str  # host:port,…
    security: Security = Security.PLAINTEXT
    mechanism: Mechanism = Mechanism.SCRAM_SHA_512
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None  # None: whom the system trusts
    certificate_file: Path | None = None
    key_file: Path | None = None
    compression: Compression = Compression.LZ4

    @classmethod
    def of(cls, brokers: "Brokers | str") -> "Brokers":
        """The brokers; those at a mere address are spoken to in the clear."""
        return brokers if isinstance(brokers, Brokers) else cls(brokers)

    def __str__(self) -> str:
        return self.servers

    def tls(self) -> ssl.SSLContext | None:
        """Who is trusted, and what is shown for oneself; None without TLS. Raises: Misconfigured for files that are no PEM."""
        if not self.security.has_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate_file is not None:
                context.load_cert_chain(self.certificate_file, self.key_file)
        except (ssl.SSLError, OSError) as error:
            names = "CONCLAVE_KAFKA_CA_FILE, …_CERTIFICATE_FILE, …_KEY_FILE"
            raise Misconfigured([WrongSetting(names, f"certificates and a key as PEM ({error})", None)]) from None
        return context


class BrokerSettings(BaseSettings):
    """The settings of whatever connects to a broker."""

    model_config = SettingsConfigDict(env_prefix="CONCLAVE_", frozen=True, extra="ignore")

    bootstrap_servers: Annotated[str, Field(min_length=3, description="Kafka brokers, host:port,…")]
    kafka_security: Annotated[Security, Field(description="plaintext, ssl, sasl_plaintext or sasl_ssl")] = (
        Security.PLAINTEXT
    )
    kafka_mechanism: Annotated[Mechanism, Field(description="of SASL")] = Mechanism.SCRAM_SHA_512
    kafka_username: Annotated[str, Field(description="of SASL", validate_default=True)] = ""
    kafka_password: Annotated[str, Field(repr=False, validate_default=True)] = ""
    kafka_ca_file: Annotated[FilePath | None, Field(description="certificates to trust; none: the system's")] = None
    kafka_certificate_file: Annotated[FilePath | None, Field(description="of the client, where the broker asks")] = None
    kafka_key_file: Annotated[FilePath | None, Field(validate_default=True)] = None
    kafka_compression: Annotated[Compression, Field(description="none, lz4, snappy, zstd or gzip")] = Compression.LZ4

    @property
    def brokers(self) -> Brokers:
        """The brokers, and how they are spoken to."""
        return Brokers(
            self.bootstrap_servers,
            self.kafka_security,
            self.kafka_mechanism,
            self.kafka_username,
            self.kafka_password,
            self.kafka_ca_file,
            self.kafka_certificate_file,
            self.kafka_key_file,
            self.kafka_compression,
        )

    @field_validator("kafka_username", "kafka_password")
    @classmethod
    def _check_sasl(cls, value: str, info: ValidationInfo) -> str:
        security = info.data.get("kafka_security", Security.PLAINTEXT)
        if security.has_sasl and not value:
            raise ValueError(f"needed with {security.value}")
        return value

    @field_validator("kafka_key_file")
    @classmethod
    def _check_key(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) is not (info.data.get("kafka_certificate_file") is None):
            raise ValueError("given with CONCLAVE_KAFKA_CERTIFICATE_FILE, or neither")
        return value
