"""A service's process: what it says of wrong settings, and who hears what is broadcast."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from conclave.errors import LostDependency
from conclave.runtime.attempts import Dependencies
from conclave.runtime.broadcast import BroadcastReader
from conclave.runtime.process import Parts, Process
from conclave.runtime.record import Tp
from conclave.runtime.settings import RuntimeSettings
from conclave.testing.waiting import until
from schemas import codec
from schemas.events import Event, StepClosed
from schemas.ids import new_request_id

SETTINGS = RuntimeSettings(bootstrap_servers="127.0.0.1:1")
TP = Tp("reasoning.control", 0)


def _run(code: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONCLAVE_")}
    environment |= {f"CONCLAVE_{name}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60, env=environment
    )


def test_wrong_settings_of_the_runtime_and_of_the_service_are_reported_together_with_status_2() -> None:
    code = "import runpy; runpy.run_module('services.voter', run_name='__main__')"
    done = _run(code, MAX_IN_FLIGHT="none", VOTER_GRACE_S="-1")
    assert done.returncode == 2, done.stderr
    for name in ("BOOTSTRAP_SERVERS", "MAX_IN_FLIGHT", "VOTER_GRACE_S"):
        assert f"CONCLAVE_{name}: expected" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_that_proves_wrong_while_the_service_is_composed_ends_it_with_status_2_too() -> None:
    code = """
import sys
from contextlib import asynccontextmanager
from conclave.errors import Misconfigured, WrongSetting
from conclave.runtime.process import main

@asynccontextmanager
async def compose(settings, dependencies):
    raise Misconfigured([WrongSetting("CONCLAVE_ENGINE", "an engine that is there", "gone")])
    yield

sys.exit(main("voter", compose))
"""
    done = _run(code, BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert done.returncode == 2, done.stderr
    assert "CONCLAVE_ENGINE: expected an engine that is there, got 'gone'" in done.stderr
    assert "Traceback" not in done.stderr


def test_who_is_stopped_while_it_starts_waits_for_no_thread_and_leaves_no_child() -> None:
    code = """
import asyncio, multiprocessing, os, signal, sys, time
from contextlib import asynccontextmanager
from conclave.runtime.process import main

def start_forever():
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    child.start()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(600)

@asynccontextmanager
async def compose(settings, dependencies):
    await asyncio.to_thread(start_forever)
    yield

if __name__ == "__main__":
    sys.exit(main("voter", compose))
"""
    # It returns once the child, too, has let go of its output.
    done = _run(code, BOOTSTRAP_SERVERS="127.0.0.1:1", HTTP_PORT="0")
    assert done.returncode == 0, done.stderr
    assert "service_stopped" in done.stderr


@dataclass
class Heard:
    """A listener that keeps what it hears."""

    events: list[Event] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        self.events.append(event)


@dataclass
class Idle:
    """A consumer that has nothing to do."""

    is_ready: bool = True

    def stop(self) -> None:
        """Nothing to do."""

    async def run(self) -> None:
        """Nothing to do."""


@pytest.mark.parametrize(("name", "listener"), [("voter", Heard()), ("decoder", None), ("decomposer", None)])
async def test_a_listener_that_hears_nothing_and_a_broadcast_without_a_listener_are_errors_at_start(
    name: str, listener: Heard | None
) -> None:
    @asynccontextmanager
    async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
        yield Parts(Idle(), listener=listener)

    process = Process(name, SETTINGS, compose)
    with pytest.raises(ExceptionGroup) as caught:
        await process.run()
    assert caught.group_contains(TypeError, match=f"the row of {name} in schemas.flow")


async def test_a_process_whose_consumer_is_done_ends_in_order() -> None:
    ended: list[str] = []

    @asynccontextmanager
    async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
        yield Parts(Idle(), status=lambda: {"mood": "good"})
        ended.append("composed parts")

    process = Process("voter", SETTINGS, compose)
    assert process.status() == {"ready": False, "starting": True}
    await process.run()
    assert ended == ["composed parts"]
    assert process.status()["mood"] == "good"


@dataclass
class Log:
    """A broadcast topic: a broker, and its own readers."""

    values: list[bytes] = field(default_factory=list)
    is_away: bool = False
    next_offset: int = 0
    polls: list[int] = field(default_factory=list)

    def log_reader(self, *, follows: bool = False) -> "Log":
        return self

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def partitions(self, topic: str) -> list[Tp]:
        return [TP]

    async def begin_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        return {TP: 0}

    async def end_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        return {TP: len(self.values)}

    def assign(self, positions: Mapping[Tp, int]) -> None:
        self.next_offset = positions[TP]
        self.polls.append(self.next_offset)

    async def position(self, tp: Tp) -> int:
        return self.next_offset

    async def poll(self, *, timeout_ms: int, max_records: int = 1000) -> list[Any]:
        await asyncio.sleep(0)
        if self.is_away:
            self.is_away = False
            raise LostDependency("kafka", "told to")
        found, first = self.values[self.next_offset :], self.next_offset
        self.next_offset = len(self.values)
        return [
            SimpleNamespace(topic=TP.topic, partition=0, offset=first + number, value=value, headers=())
            for number, value in enumerate(found)
        ]


def _closed(step_index: int) -> StepClosed:
    return StepClosed(request_id=new_request_id(), step_index=step_index)


@pytest.mark.parametrize("from_end", [False, True])
async def test_a_listener_hears_what_it_asks_for_and_nothing_twice_when_the_broker_was_away(
    from_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conclave.runtime.broadcast._TRY_AGAIN_S", 0.0)
    before, after, last = _closed(0), _closed(1), _closed(2)
    log, heard = Log([codec.encode(before)]), Heard()
    reader = BroadcastReader(log, [TP.topic], heard, Dependencies(), from_end=from_end)  # type: ignore[arg-type]
    task = asyncio.create_task(reader.run())
    try:
        await until(lambda: reader.is_caught_up)
        log.values.append(codec.encode(after))
        await until(lambda: after in heard.events)
        log.is_away = True
        await until(lambda: len(log.polls) == 2)
        log.values.append(codec.encode(last))
        await until(lambda: last in heard.events)
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert heard.events == ([after, last] if from_end else [before, after, last])
    assert reader.is_caught_up
