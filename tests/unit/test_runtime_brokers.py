"""How brokers and the database are spoken to: settings that agree with each other, and secrets that nobody sees."""

import ssl
from pathlib import Path

import pytest

from conclave.errors import Misconfigured
from conclave.runtime.brokers import Brokers, BrokerSettings, Compression, Mechanism, Security
from conclave.runtime.settings import load
from conclave.store.addresses import address_of
from services.recorder.settings import RecorderSettings

SECRET = "s3cr3t"


def _load(monkeypatch: pytest.MonkeyPatch, **settings: str) -> BrokerSettings:
    for name, value in {"BOOTSTRAP_SERVERS": "kafka:9092", **settings}.items():
        monkeypatch.setenv(f"CONCLAVE_{name}", value)
    return load(BrokerSettings)


def test_brokers_are_spoken_to_in_the_clear_unless_it_is_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    brokers = _load(monkeypatch).brokers
    assert brokers == Brokers.of("kafka:9092")
    assert (brokers.tls(), str(brokers)) == (None, "kafka:9092")


def test_records_are_compressed_by_lz4_unless_it_is_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _load(monkeypatch).brokers.compression is Brokers.of("kafka:9092").compression is Compression.LZ4
    assert _load(monkeypatch, KAFKA_COMPRESSION="none").brokers.compression is Compression.NONE
    with pytest.raises(Misconfigured, match="KAFKA_COMPRESSION"):
        _load(monkeypatch, KAFKA_COMPRESSION="rar")


def test_a_password_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _load(
        monkeypatch, KAFKA_SECURITY="sasl_ssl", KAFKA_MECHANISM="PLAIN", KAFKA_USERNAME="ann", KAFKA_PASSWORD=SECRET
    )
    assert SECRET not in repr(settings) + repr(settings.brokers) + str(settings.brokers)
    assert (settings.brokers.mechanism, settings.brokers.password) == (Mechanism.PLAIN, SECRET)
    context = settings.brokers.tls()
    assert context is not None
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    monkeypatch.setenv("CONCLAVE_POSTGRES_DSN", f"mysql://ann:{SECRET}@db/conclave")
    with pytest.raises(Misconfigured) as caught:
        load(RecorderSettings)
    assert SECRET not in str(caught.value)
    assert "CONCLAVE_POSTGRES_DSN" in str(caught.value)


@pytest.mark.parametrize("security", [each for each in Security if each.has_sasl])
def test_sasl_without_a_name_and_a_password_is_refused_with_both(
    monkeypatch: pytest.MonkeyPatch, security: Security
) -> None:
    with pytest.raises(Misconfigured) as caught:
        _load(monkeypatch, KAFKA_SECURITY=security.value)
    assert [wrong.name for wrong in caught.value.settings] == ["CONCLAVE_KAFKA_USERNAME", "CONCLAVE_KAFKA_PASSWORD"]


def test_a_certificate_without_its_key_or_a_file_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(Misconfigured, match="KAFKA_KEY_FILE"):
        _load(monkeypatch, KAFKA_SECURITY="ssl", KAFKA_CERTIFICATE_FILE=str(empty))
    with pytest.raises(Misconfigured, match="KAFKA_CA_FILE"):
        _load(monkeypatch, KAFKA_CA_FILE=str(tmp_path / "none.pem"))
    settings = _load(monkeypatch, KAFKA_CA_FILE=str(empty), KAFKA_KEY_FILE=str(empty))
    with pytest.raises(Misconfigured, match="PEM"):
        settings.brokers.tls()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_a_dsn_is_read_as_libpq_reads_it(scheme: str) -> None:
    plain = address_of(f"{scheme}://ann:{SECRET}@db:5433/conclave?application_name=x")
    assert (plain.url.host, plain.url.port, plain.url.database, plain.url.password) == ("db", 5433, "conclave", SECRET)
    assert (dict(plain.url.query), plain.tls) == ({"application_name": "x"}, None)
    assert SECRET not in repr(plain)
    checks = {}
    for mode in ("disable", "prefer", "require", "verify-ca", "verify-full"):
        address = address_of(f"{scheme}://db/conclave?sslmode={mode}")
        assert dict(address.url.query) == {}
        tls = address.tls
        checks[mode] = (tls.check_hostname, tls.verify_mode) if isinstance(tls, ssl.SSLContext) else tls
    assert checks == {
        "disable": "disable",
        "prefer": "prefer",
        "require": (False, ssl.CERT_NONE),
        "verify-ca": (False, ssl.CERT_REQUIRED),
        "verify-full": (True, ssl.CERT_REQUIRED),
    }


@pytest.mark.parametrize(
    "query", ["sslmode=maybe", "sslmode=verify-full&sslrootcert=/no/such.pem", "sslcert=/no/such.pem"]
)
def test_what_a_dsn_says_of_tls_and_cannot_be_done_is_a_wrong_setting(query: str) -> None:
    with pytest.raises(Misconfigured, match="CONCLAVE_POSTGRES_DSN") as caught:
        address_of(f"postgresql://ann:{SECRET}@db/conclave?{query}")
    assert SECRET not in str(caught.value)
