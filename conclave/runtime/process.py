"""A service's process: its settings, signals, endpoints, dependencies and consumer, put together and ended in order."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NoReturn, Protocol

import structlog
import uvloop
from pydantic_settings import BaseSettings

from conclave.errors import Misconfigured, WrongSetting
from conclave.extensions import load_extensions
from conclave.runtime import logs, memory
from conclave.runtime.attempts import Dependencies
from conclave.runtime.broadcast import BroadcastReader
from conclave.runtime.handler import Listener
from conclave.runtime.health import Health
from conclave.runtime.kafka import Kafka
from conclave.runtime.probing import probe_kafka
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
    listener: Listener | None = None
    hears_from_end: bool = False  # the listener needs nothing of what was said before
    status: Callable[[], dict[str, object]] = dict


Compose = Callable[[RuntimeSettings, Dependencies], AbstractAsyncContextManager[Parts]]


def main(name: str, compose: Compose, *own: type[BaseSettings]) -> int:
    """The exit status of a service process: 0 after a clean stop, 2 for wrong settings.

    `own` are the settings that the service has besides the runtime's: wrong ones of all are reported together.
    """
    try:
        settings = _checked(*own)
        logs.configure(service=name, level=settings.log_level, log_format=settings.log_format)
        memory.collect_seldom()
        process = Process(name, settings, compose)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # docs/decisions/0059
            runner.run(process.run())
            if process.is_unfinished:
                _leave_threads()
    except Misconfigured as error:
        return _refused(name, error)
    except ExceptionGroup as group:
        wrong, others = group.split(Misconfigured)
        if wrong is None or others is not None:
            raise
        return _refused(name, *_leaves(wrong))
    return 0


def _checked(*own: type[BaseSettings]) -> RuntimeSettings:
    """The runtime's settings. Raises: Misconfigured, with all that is wrong in them and in a service's own."""
    wrong: list[WrongSetting] = []
    found = None
    try:
        found = load(RuntimeSettings)
        load_extensions(found.extensions)  # before the others, which may name what an extension adds
    except Misconfigured as error:
        wrong += error.settings
    for settings in own:
        try:
            load(settings)
        except Misconfigured as error:
            wrong += error.settings
    if found is None or wrong:
        raise Misconfigured(wrong)
    return found


def _refused(name: str, *errors: Misconfigured) -> int:
    error = Misconfigured([setting for error in errors for setting in error.settings])
    sys.stderr.write(f"{name}: {error}\n")
    return 2


def _leave_threads() -> NoReturn:
    """Ends the process at once. What was starting in a thread, such as a model's engine, may go on for a minute, and a runner
    waits for it; nobody can tell it to stop."""
    import multiprocessing  # by now whoever needs it has paid for it

    for child in multiprocessing.active_children():
        child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _leaves(group: ExceptionGroup[Misconfigured]) -> Iterator[Misconfigured]:
    for each in group.exceptions:
        if isinstance(each, ExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


class Process:
    """A service's process, from its first breath to its last.

    It serves /live and /ready from the start, composes the service, joins the group, and drains on the first signal.
    """

    def __init__(self, name: str, settings: RuntimeSettings, compose: Compose) -> None:
        self._name, self._settings, self._compose = name, settings, compose
        self._dependencies = Dependencies()
        self._stopping = asyncio.Event()
        self._parts: Parts | None = None  # once it is composed
        self._reader: BroadcastReader | None = None

    @property
    def is_unfinished(self) -> bool:
        """True when it was stopped while it was still being composed: there was nothing to drain."""
        return self._parts is None and self._stopping.is_set()

    async def run(self) -> None:
        """Returns after a clean stop. Raises what ends the service otherwise."""
        health = Health(self._name, self.status)
        port = health.serve(self._settings.http_host, self._settings.http_port)
        log.info("service_starting", http_port=port, pid=os.getpid())
        _on_signals(self._stopping)
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(health.watch(), name="watch")
                await self._until_stopped()
                watch.cancel()
        finally:
            health.close()
        log.info("service_stopped")

    def status(self) -> dict[str, object]:
        """What /ready says."""
        parts, reader, away = self._parts, self._reader, self._dependencies.away
        if parts is None:
            return {"ready": False, "starting": True}
        is_ready = parts.consumer.is_ready and not away and (reader is None or reader.is_caught_up)
        return {"ready": is_ready, "away": sorted(away), "why": away, **parts.status()}

    async def _until_stopped(self) -> None:
        serving = asyncio.create_task(self._serve(), name=self._name)
        stop = asyncio.create_task(self._stopping.wait(), name="stop")
        await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if self.is_unfinished:
            serving.cancel()
        try:
            await serving
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise

    async def _serve(self) -> None:
        async with self._compose(self._settings, self._dependencies) as parts, asyncio.TaskGroup() as tasks:
            self._reader = self._broadcast_reader(parts)
            beside = [
                tasks.create_task(probe_kafka(self._settings.bootstrap_servers, self._dependencies), name="probe"),
                tasks.create_task(_stop_when(self._stopping, parts.consumer.stop), name="stopper"),
            ]
            if self._reader is not None:
                beside.append(tasks.create_task(self._reader.run(), name="broadcast"))
            self._parts = parts
            await parts.consumer.run()
            for task in beside:
                task.cancel()

    def _broadcast_reader(self, parts: Parts) -> BroadcastReader | None:
        """What reads the broadcast topics of the service's row to its listener. One without the other is a mistake."""
        topics = [topic.value for topic in flow.service_row(self._name).broadcasts]
        if (parts.listener is None) is not (not topics):
            has = f"hears {', '.join(topics)}" if topics else "hears nothing"
            given = "no listener" if parts.listener is None else f"the listener {type(parts.listener).__name__}"
            raise TypeError(f"the row of {self._name} in schemas.flow {has}, and it was composed with {given}")
        if parts.listener is None:
            return None
        broker = Kafka(self._settings.brokers)
        return BroadcastReader(broker, topics, parts.listener, self._dependencies, from_end=parts.hears_from_end)


async def _stop_when(stopping: asyncio.Event, stop: Callable[[], None]) -> None:
    await stopping.wait()
    stop()


def _on_signals(stopping: asyncio.Event) -> None:
    """The first SIGTERM or SIGINT drains, the second ends the process at once."""

    def on_signal() -> None:
        if stopping.is_set():
            os._exit(130)
        log.info("stopping")
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
