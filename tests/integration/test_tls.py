"""Kafka over TLS and SASL on a real broker: with a password, or with a certificate; refused to whoever is not let in.

The broker has an authoriser too: who needs no name, and the user below, may do everything; services may do what
`conclave acls` gives them.
"""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from conclave.errors import LostDependency
from conclave.local.machine.ports import LOOPBACK, free_port
from conclave.local.machine.process import Process
from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime.brokers import Brokers, Mechanism, Security
from conclave.runtime.client import Client
from conclave.runtime.kafka import Admin, LogReader, PlainProducer, TransactionalProducer
from conclave.runtime.record import Output, Tp
from conclave.runtime.topics import ensure_topics
from conclave.testing.pipeline import Pipeline
from schemas import flow
from schemas.events import AnswerReached, ReasoningRequested
from schemas.flow import Topic
from schemas.ids import new_request_id
from tests.certificates import Authority, Issued
from tests.integration.conftest import finish

CHECKOUT = Path(__file__).resolve().parents[2]
USER, PASSWORD = "ann", "s3cr3t-of-ann"
NAMES = (*flow.SERVICES, "shop")  # a producer besides the services


class GuardedBroker(KafkaBroker):
    """A broker with two guarded listeners besides its own: SECURE asks for a password, MUTUAL for a certificate."""

    def __init__(self, folder: Path, jars_dir: Path, authority: Authority, server: Issued) -> None:
        super().__init__(folder, jars_dir=jars_dir)
        self._authority, self._server = authority, server
        self.secure_port, self.mutual_port = free_port(), free_port()

    def _write_settings(self, *, port: int, controller_port: int) -> Path:
        path = super()._write_settings(port=port, controller_port=controller_port)
        settings = dict(line.split("=", 1) for line in path.read_text().splitlines())
        more = f",SECURE://{LOOPBACK}:{self.secure_port},MUTUAL://{LOOPBACK}:{self.mutual_port}"
        module = "org.apache.kafka.common.security"
        known = " ".join(f'user_{name}="{PASSWORD}"' for name in (USER, *NAMES))
        settings |= {
            "listeners": settings["listeners"] + more,
            "advertised.listeners": settings["advertised.listeners"] + more,
            "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._server.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._authority.certificate),
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.secure.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.secure.plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule required {known};",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{USER};User:CN=client",
        }
        for scram in ("scram-sha-256", "scram-sha-512"):
            name = f"listener.name.secure.{scram}.sasl.jaas.config"
            settings[name] = f"{module}.scram.ScramLoginModule required;"
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return path

    async def let_in(self) -> None:
        """Has the broker know the user by SCRAM, as an operator would with Kafka's own tool."""
        await asyncio.gather(*(self._let_in_by(each) for each in (Mechanism.SCRAM_SHA_256, Mechanism.SCRAM_SHA_512)))

    async def _let_in_by(self, mechanism: Mechanism) -> None:
        credentials = f"{mechanism.value}=[password={PASSWORD}]"  # one a call
        arguments = ["--bootstrap-server", self.endpoint, "--alter", "--add-config", credentials]
        tool = Process(
            self._command("kafka.admin.ConfigCommand", *arguments, "--entity-type", "users", "--entity-name", USER)
        )
        assert await tool.wait(60)
        assert tool.exit_status == 0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom both servers' certificates are of."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker(session_dir: Path, jars_dir: Path, authority: Authority) -> Iterator[GuardedBroker]:
    """A broker that asks who connects, and encrypts."""
    broker = GuardedBroker(session_dir / "kafka-tls", jars_dir, authority, authority.issue("broker"))
    finish(broker.start())
    try:
        finish(broker.let_in())
        yield broker
    finally:
        finish(broker.stop())


def _secure(broker: GuardedBroker, authority: Authority, **changes: object) -> Brokers:
    values: dict[str, object] = {
        "security": Security.SASL_SSL,
        "username": USER,
        "password": PASSWORD,
        "ca_file": authority.certificate,
    }
    return Brokers(f"{LOOPBACK}:{broker.secure_port}", **(values | changes))  # type: ignore[arg-type]


async def _round_trip(brokers: Brokers) -> bytes | None:
    """What is read back of a record that was published in a transaction, by every kind of client."""
    topic = f"guarded-{uuid.uuid4().hex[:8]}"
    async with Admin(brokers) as admin:
        await admin.create_topic(topic, 1, 1, {})
    producer = TransactionalProducer(brokers, f"conclave.tests.{topic}")
    await producer.open()
    await producer.begin()
    await producer.send([Output(topic, None, b"in a transaction", ())])
    await producer.acknowledged()
    await producer.commit()
    await producer.close()
    reader = LogReader(brokers)
    await reader.start()
    try:
        reader.assign({Tp(topic, 0): 0})
        async with asyncio.timeout(20):
            while not (found := await reader.poll(timeout_ms=500)):
                pass
        return found[0].value
    finally:
        await reader.stop()


@pytest.mark.parametrize("mechanism", Mechanism)
async def test_every_client_speaks_to_a_broker_that_encrypts_and_asks_for_a_password(
    broker: GuardedBroker, authority: Authority, mechanism: Mechanism
) -> None:
    assert await _round_trip(_secure(broker, authority, mechanism=mechanism)) == b"in a transaction"


async def test_a_client_may_show_a_certificate_instead(broker: GuardedBroker, authority: Authority) -> None:
    client = authority.issue("client")
    brokers = Brokers(
        f"{LOOPBACK}:{broker.mutual_port}",
        Security.SSL,
        ca_file=authority.certificate,
        certificate_file=client.certificate,
        key_file=client.key,
    )
    assert await _round_trip(brokers) == b"in a transaction"


async def test_who_is_not_let_in_or_not_trusted_counts_as_away_and_no_secret_is_told(
    broker: GuardedBroker, authority: Authority, tmp_path: Path
) -> None:
    wrong = "wrong-s3cr3t"
    another = Authority(tmp_path, "another").certificate
    refused: Mapping[str, Brokers] = {
        "a wrong password": _secure(broker, authority, password=wrong),
        "nobody": _secure(broker, authority, username="bob"),
        "no password": Brokers(f"{LOOPBACK}:{broker.secure_port}", Security.SSL, ca_file=authority.certificate),
        "in the clear": Brokers(f"{LOOPBACK}:{broker.secure_port}"),
        "a broker that nobody vouches for": _secure(broker, authority, ca_file=another),
        "no certificate": Brokers(f"{LOOPBACK}:{broker.mutual_port}", Security.SSL, ca_file=authority.certificate),
        "another name": replace(_secure(broker, authority), servers=f"127.0.0.2:{broker.secure_port}"),
    }
    for what, brokers in refused.items():
        producer = PlainProducer(brokers)
        try:
            with pytest.raises(LostDependency) as caught:
                async with asyncio.timeout(40):
                    await producer.start()
        finally:
            await producer.stop()
        assert PASSWORD not in str(caught.value), what
        assert wrong not in str(caught.value), what


def _as(broker: GuardedBroker, authority: Authority, name: str) -> Brokers:
    return _secure(broker, authority, username=name, mechanism=Mechanism.PLAIN)


@pytest.fixture(scope="module")
def granted(broker: GuardedBroker, authority: Authority) -> None:
    """The pipeline's topics are there, and the command has given everybody their rights."""
    finish(ensure_topics(_as(broker, authority, USER), partitions=2))
    environment = {
        **os.environ,
        "CONCLAVE_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{broker.secure_port}",
        **_settings(authority, USER),
    }
    command = [sys.executable, "-m", "conclave.cli", "acls", "--producer", "User:shop", "--apply"]
    said = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, cwd=CHECKOUT, check=True
    ).stdout
    assert f"rights of {len(NAMES)} principals are set" in said


def _settings(authority: Authority, name: str) -> dict[str, str]:
    return {
        "CONCLAVE_KAFKA_SECURITY": "sasl_ssl",
        "CONCLAVE_KAFKA_MECHANISM": "PLAIN",
        "CONCLAVE_KAFKA_USERNAME": name,
        "CONCLAVE_KAFKA_PASSWORD": PASSWORD,
        "CONCLAVE_KAFKA_CA_FILE": str(authority.certificate),
    }


async def test_a_question_is_answered_by_services_that_may_do_no_more_than_they_need(
    broker: GuardedBroker, authority: Authority, granted: None, fresh_database: str, tmp_path: Path
) -> None:
    pipeline = Pipeline(
        broker,
        fresh_database,
        tmp_path,
        {"CONCLAVE_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{broker.secure_port}"},
        lambda service: _settings(authority, service),
    )
    request = ReasoningRequested(question="How much is 6 times 6?", request_id=new_request_id())
    async with (
        pipeline.running(),
        Client(_as(broker, authority, "shop")) as client,
        client.follow(Topic.ANSWERS) as events,
        asyncio.timeout(60),
    ):
        await client.publish(request)
        async for _, event in events:
            if isinstance(event, AnswerReached) and event.request_id == str(request.request_id):
                break


async def _may_write(brokers: Brokers, topics: Iterable[str]) -> set[str]:
    producer, found = PlainProducer(brokers), set()
    await producer.start()
    try:
        for topic in topics:
            try:
                await producer.publish([Output(topic, b"key", b"value", ())])
                found.add(topic)
            except LostDependency as error:
                if "AuthorizationFailed" not in error.why:
                    raise
    finally:
        await producer.stop()
    return found


async def _may_read(brokers: Brokers, topics: Iterable[str]) -> set[str]:
    """Of topics that have a record each, those whose record is read; a topic that may not even be described is none."""
    found = set()
    for topic in topics:
        reader = LogReader(brokers)
        await reader.start()
        try:
            if await reader.partitions(topic):
                reader.assign({Tp(topic, 0): 0})
                async with asyncio.timeout(20):
                    while not await reader.poll(timeout_ms=500):
                        pass
                found.add(topic)
        except LostDependency as error:
            if "TopicAuthorizationFailed" not in error.why:
                raise
        finally:
            await reader.stop()
    return found


@pytest.fixture(scope="module")
def filled(broker: GuardedBroker, authority: Authority, granted: None) -> None:
    """Every topic, and every one of dead letters, has a record in its first partition."""

    async def fill() -> None:
        producer = PlainProducer(_as(broker, authority, USER))
        await producer.start()
        topics = [*(each.topic.value for each in flow.TOPICS), *_dead_letters()]
        await producer.publish([Output(each, b"key", b"value", (), 0) for each in topics])
        await producer.stop()

    finish(fill())


def _dead_letters() -> list[str]:
    return [flow.dead_letter_topic(each.topic) for each in flow.TOPICS if not each.is_broadcast]


@pytest.mark.parametrize("name", NAMES)
async def test_everybody_may_read_and_write_what_is_theirs_and_nothing_else(
    broker: GuardedBroker, authority: Authority, filled: None, name: str
) -> None:
    row = flow.SERVICES.get(name)
    if row is None:
        read, written = {Topic.ANSWERS.value}, {Topic.REQUESTS.value, Topic.FEEDBACK.value}
    else:
        read = {each.value for each in (*row.consumes, *row.broadcasts)}
        read |= set(_dead_letters()) if name == "gateway" else set()  # its pages show them
        written = {flow.topic_of(event).value for event in row.emits}
        written |= {
            flow.dead_letter_topic(each.topic)
            for each in flow.TOPICS
            if (each.guardian == name or (row.keeps_offsets and each.topic in row.consumes)) and not each.is_broadcast
        }
    topics = [each.topic.value for each in flow.TOPICS]
    who = _as(broker, authority, name)
    assert await _may_write(who, [*topics, *_dead_letters()]) == written
    assert await _may_read(who, [*topics, *_dead_letters()]) == read
