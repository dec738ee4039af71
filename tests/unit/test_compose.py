"""docker-compose.yml runs what schemas.flow says, with the settings that the embedded stack uses."""

from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from conclave.cli import group
from conclave.local.servers.kafka import BROKER_SETTINGS
from conclave.prepare import PrepareSettings
from schemas.flow import SERVICES, ServiceRow

_CHECKOUT = Path(__file__).resolve().parents[2]
_PARTS = {"kafka", "postgres", "prepare", "vllm"}
# What depends on the network a broker lives in, or on how small the machine is, differs between the two.
_OWN_TO_EMBEDDED = {
    "node.id", "process.roles", "listener.security.protocol.map", "broker.session.timeout.ms",
    "broker.heartbeat.interval.ms", "offsets.topic.num.partitions", "transaction.state.log.num.partitions",
    "num.network.threads", "num.io.threads", "background.threads", "num.recovery.threads.per.data.dir",
    "log.cleaner.dedupe.buffer.size", "log.segment.bytes", "queued.max.requests",
    "transaction.partition.verification.enable",
}  # fmt: skip


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((_CHECKOUT / "docker-compose.yml").read_text())
    return loaded


def test_compose_runs_every_service_of_the_flow_and_no_other(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == _PARTS | set(SERVICES)


@pytest.mark.parametrize("row", SERVICES.values(), ids=lambda row: row.name)
def test_a_service_is_told_where_all_that_it_needs_is(row: ServiceRow, compose: dict[str, Any]) -> None:
    service = compose["services"][row.name]
    environment = service["environment"]
    assert service["command"] == ["python", "-m", f"services.{row.name}"]
    assert environment["CONCLAVE_BOOTSTRAP_SERVERS"] == "kafka:9092"
    assert f":{environment['CONCLAVE_HTTP_PORT']}/ready" in " ".join(service["healthcheck"]["test"])
    assert ("CONCLAVE_POSTGRES_DSN" in environment) == (row.needs_postgres or row.asks_postgres)
    assert (environment.get("CONCLAVE_ENGINE") == "openai") == row.needs_model
    assert service["depends_on"]["prepare"] == {"condition": "service_completed_successfully"}


def test_nothing_starts_before_what_it_depends_on(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in services, f"{name} depends on {needed}, which is not there"
            if condition["condition"] == "service_healthy":
                assert "test" in services[needed]["healthcheck"], f"{needed} can't report that it is healthy"
    assert set(services["prepare"]["depends_on"]) == {"kafka", "postgres"}


def test_what_prepares_a_start_is_a_command_that_is_told_all_it_needs(compose: dict[str, Any]) -> None:
    program, command = compose["services"]["prepare"]["command"]
    assert program == "conclave"
    assert command in group.list_commands(click.Context(group))
    for name, setting in PrepareSettings.model_fields.items():
        assert not setting.is_required() or f"CONCLAVE_{name.upper()}" in compose["services"]["prepare"]["environment"]


def test_the_broker_has_the_settings_of_the_embedded_one(compose: dict[str, Any]) -> None:
    environment = compose["services"]["kafka"]["environment"]
    for key, value in BROKER_SETTINGS.items():
        if key not in _OWN_TO_EMBEDDED:
            assert environment["KAFKA_" + key.replace(".", "_").upper()] == value, key


def test_the_broker_is_the_version_whose_jars_are_locked(compose: dict[str, Any]) -> None:
    version = compose["services"]["kafka"]["image"].partition(":")[2]
    assert f"org.apache.kafka:kafka_2.13:{version} " in (_CHECKOUT / "conclave/local/servers/kafka.lock").read_text()


def test_the_model_server_asks_for_a_gpu_and_serves_the_model_that_the_decoder_names(compose: dict[str, Any]) -> None:
    server, decoder = compose["services"]["vllm"], compose["services"]["decoder"]
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert f"--served-model-name={decoder['environment']['CONCLAVE_MODEL']}" in server["command"]
    assert decoder["environment"]["CONCLAVE_OPENAI_BASE_URL"] == "http://vllm:8000/v1"
    assert (_CHECKOUT / "models").name in server["volumes"][0]


def test_ports_are_published_to_the_loopback_interface_only(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_file_is_valid_by_the_compose_specification(compose: dict[str, Any]) -> None:
    builtin = pytest.importorskip("check_jsonschema.builtin_schemas", reason="check-jsonschema holds the schema")
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(compose, builtin.get_builtin_schema("vendor.compose-spec"))
