"""A service's process: its settings, signals, endpoints, dependencies and consumer, put together and ended in order."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import structlog

from conclave.errors import Misconfigured
from conclave.extensions import load_extensions
from conclave.runtime import logs
from conclave.runtime.attempts import Dependencies
from conclave.runtime.broadcast import BroadcastReader
from conclave.runtime.handler import Broadcast
from conclave.runtime.health import Health
from conclave.runtime.kafka import Kafka
from conclave.runtime.settings import RuntimeSettings, load
from schemas import flow

log = structlog.get_logger(__name__)


class Consumer(Protocol):
    """What a process runs: conclave.runtime.service.Service or conclave.runtime.sink.Sink."""

    @property
    def is_ready(self) -> bool: ...
    def stop(self) -> None: ...
    async def run(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service's composition root hands over."""

    consumer: Consumer
    listener: Broadcast | None = None
    status: Callable[[], dict[str, object]] = dict


Compose = Callable[[RuntimeSettings, Dependencies], AbstractAsyncContextManager[Parts]]


def main(name: str, compose: Compose) -> int:
    """The exit status of a service process: 0 after a clean stop, 2 for wrong settings."""
    try:
        settings = load(RuntimeSettings)
        logs.configure(service=name, level=settings.log_level, log_format=settings.log_format)
        load_extensions(settings.extensions)
        asyncio.run(_run(name, settings, compose))
    except Misconfigured as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 2
    return 0


async def _run(name: str, settings: RuntimeSettings, compose: Compose) -> None:
    dependencies = Dependencies()
    ready: dict[str, Callable[[], dict[str, object]]] = {}
    health = Health(name, lambda: ready["status"]() if "status" in ready else {"ready": False, "starting": True})
    port = health.serve(settings.http_host, settings.http_port)
    log.info("service_starting", http_port=port, pid=os.getpid())
    stopping = asyncio.Event()
    _on_signals(stopping)
    try:
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(health.watch(), name="watch")
            await _until_stopped(name, settings, compose, dependencies, ready, stopping)
            watch.cancel()
    finally:
        health.close()
    log.info("service_stopped")


async def _until_stopped(
    name: str,
    settings: RuntimeSettings,
    compose: Compose,
    dependencies: Dependencies,
    ready: dict[str, Callable[[], dict[str, object]]],
    stopping: asyncio.Event,
) -> None:
    composing = asyncio.create_task(_compose_and_run(name, settings, compose, dependencies, ready, stopping), name=name)
    stop = asyncio.create_task(stopping.wait(), name="stop")
    await asyncio.wait({composing, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not composing.done() and "consumer" not in ready:
        composing.cancel()  # still starting: nothing to drain
    try:
        await composing
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise


async def _compose_and_run(
    name: str,
    settings: RuntimeSettings,
    compose: Compose,
    dependencies: Dependencies,
    ready: dict[str, Callable[[], dict[str, object]]],
    stopping: asyncio.Event,
) -> None:
    row = flow.service_row(name)
    async with compose(settings, dependencies) as parts, asyncio.TaskGroup() as tasks:
        extra: list[asyncio.Task[None]] = []
        reader = None
        assert bool(row.broadcasts) is (parts.listener is not None), (
            f"{name} listens, or its flow row says so, not both"
        )
        if row.broadcasts and parts.listener is not None:
            topics = [topic.value for topic in row.broadcasts]
            reader = BroadcastReader(Kafka(settings.bootstrap_servers), topics, parts.listener, dependencies)
            extra.append(tasks.create_task(reader.run(), name="broadcast"))
        extra.append(tasks.create_task(_probe_kafka(settings, dependencies), name="probe"))

        def status() -> dict[str, object]:
            away = dependencies.away
            is_ready = parts.consumer.is_ready and not away and (reader is None or reader.is_caught_up)
            return {"ready": is_ready, "away": sorted(away), "why": away, **parts.status()}

        ready["consumer"] = ready["status"] = status
        stopper = tasks.create_task(_stop_when(stopping, parts.consumer.stop), name="stopper")
        await parts.consumer.run()
        for task in (*extra, stopper):
            task.cancel()


async def _stop_when(stopping: asyncio.Event, stop: Callable[[], None]) -> None:
    await stopping.wait()
    stop()


async def _probe_kafka(settings: RuntimeSettings, dependencies: Dependencies) -> None:
    """Asks every few seconds whether a broker listens: the client library itself only waits."""
    while True:
        if await _answers(settings.bootstrap_servers):
            dependencies.back("kafka")
        else:
            dependencies.lost("kafka", f"no broker of {settings.bootstrap_servers} accepts a connection")
        await asyncio.sleep(2.0)


async def _answers(bootstrap_servers: str) -> bool:
    for address in bootstrap_servers.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            async with asyncio.timeout(5.0):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
                writer.close()
                await writer.wait_closed()
            return True
        except (OSError, TimeoutError, ValueError):
            continue
    return False


def _on_signals(stopping: asyncio.Event) -> None:
    """The first SIGTERM or SIGINT drains, the second ends the process at once."""

    def on_signal() -> None:
        if stopping.is_set():
            os._exit(130)
        log.info("stopping")
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
