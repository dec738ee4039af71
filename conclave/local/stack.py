"""The stack: starts every part in order, keeps it running, and takes it down in the opposite order."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, cast

from conclave.local.board import Board, DownloadProgress
from conclave.local.errors import LocalStackError, PartDidNotStart
from conclave.local.keeper import Keeper, Runnable
from conclave.local.machine.process import log_tail
from conclave.local.plan import KAFKA, MIGRATIONS, POSTGRES, TOPICS, WEB_PORT, Plan, Replica, environment_of
from conclave.local.servers.kafka import KafkaBroker
from conclave.local.servers.postgres import DATABASE, PostgresServer
from conclave.local.service import HeldService, ServiceProcess
from conclave.local.state import Folders, PartPhase, Phase, Snapshot, checkout_folder

_READY_POLL_S = 0.1
_READY_TIMEOUT_S = 600.0  # an engine on busy cores may need minutes; what dies is noticed at once


# One small machine: each partition costs every service that reads it a producer, and gains it nothing beyond a few.
_PARTITIONS = 4


class _Steps(Protocol):
    """What is prepared on servers that run: conclave.prepare."""

    async def make_topics(self, brokers: str, *, partitions: int) -> list[str]: ...
    async def migrate(self, dsn: str) -> None: ...


class Stack:
    """One run of the stack. `on_change` is told every new snapshot, which is also written to stack.json."""

    def __init__(
        self, plan: Plan, folders: Folders, *, previous: Snapshot | None, on_change: Callable[[Snapshot], None]
    ) -> None:
        self._plan, self._folders = plan, folders
        self._board = Board(folders, previous=previous, on_change=on_change)
        self._keeper = Keeper(self._board)
        self._running: dict[str, Runnable] = {}
        self._held: dict[str, HeldService] = {}  # services that wait for what they need
        self._prepared = {KAFKA: asyncio.Event(), POSTGRES: asyncio.Event()}  # up, with topics or tables
        self._progress = DownloadProgress(self._board)
        self._kafka = KafkaBroker(
            folders.kafka,
            jars_dir=folders.jars,
            port=self._board.former_port(KAFKA),
            log_path=folders.log(KAFKA),
            progress=self._progress,
        )
        port = self._board.former_port(POSTGRES)
        self._postgres = PostgresServer(folders.postgres, port=port, log_path=folders.log(POSTGRES))

    async def run(self, stop: asyncio.Event) -> None:
        """Runs the stack until `stop` is set.

        1. Start the services' processes, which import what they need and then wait for their settings.
        2. Start Kafka and PostgreSQL, side by side.
        3. Make the topics, and bring the tables up to date.
        4. Have each service go on as soon as there is what it needs, and wait until all are ready.
        5. Start again, after a pause that grows, whatever dies.
        6. Take all down: services first, so that they drain into servers that still run.

        Raises: LocalStackError when it can't be started; everything is down by then.
        """
        for name in self._names():
            self._board.change(name, PartPhase.WAITING)
        self._progress.loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as tasks:
                life = tasks.create_task(self._live(), name="stack")
                await _first_of(stop.wait(), life)
                self._board.announce(phase=Phase.STOPPING)
                life.cancel()
        except BaseExceptionGroup as errors:
            failure = _first(errors)
            self._board.announce(failure=str(failure))
            raise failure from None
        finally:
            self._progress.is_cancelled = True
            await self._take_down()  # 6
            self._board.announce(phase=Phase.FAILED if self._board.snapshot.failure else Phase.STOPPED)

    async def kill(self) -> None:
        """Ends every part now."""
        for held in list(self._held.values()):
            await held.kill()
        for part in list(self._running.values()):
            await part.kill()

    @property
    def _directory(self) -> Path:
        """Where services run."""
        return checkout_folder() or self._folders.root

    def _names(self) -> list[str]:
        """Every row of the board, in the order in which they become ready."""
        steps = [(name, step) for name, step in ((KAFKA, TOPICS), (POSTGRES, MIGRATIONS)) if self._plan.has(name)]
        replicas = [replica.name for replica in self._plan.service_replicas()]
        return [*(name for name, _ in steps), *(step for _, step in steps), *replicas]

    async def _live(self) -> None:
        self._hold_services()  # 1
        async with asyncio.TaskGroup() as tasks:
            steps = tasks.create_task(asyncio.to_thread(_load_steps), name="steps")
            if self._plan.has(KAFKA):
                tasks.create_task(self._bring_up_kafka(tasks, steps), name=KAFKA)
            if self._plan.has(POSTGRES):
                tasks.create_task(self._bring_up_postgres(tasks, steps), name=POSTGRES)
            for replica in self._plan.service_replicas():
                tasks.create_task(self._bring_up_service(replica, tasks), name=replica.name)
            await self._until_all_ready()
            self._board.announce(phase=Phase.READY)

    def _hold_services(self) -> None:
        for replica in self._plan.service_replicas():
            self._held[replica.name] = HeldService(
                replica.name,
                replica.row.module,
                log_path=self._folders.log(replica.name),
                directory=self._directory,
            )

    async def _bring_up_kafka(self, tasks: asyncio.TaskGroup, steps: "asyncio.Task[_Steps]") -> None:
        await self._bring_up(KAFKA, self._kafka)  # 2
        self._board.change(KAFKA, PartPhase.READY, process=self._kafka.process, port=self._kafka.port)
        self._board.announce(bootstrap_servers=self._kafka.endpoint)
        tasks.create_task(self._keeper.keep(KAFKA, self._kafka), name=f"keep {KAFKA}")  # 5
        await self._step(TOPICS, (await steps).make_topics(self._kafka.endpoint, partitions=_PARTITIONS))  # 3
        self._prepared[KAFKA].set()

    async def _bring_up_postgres(self, tasks: asyncio.TaskGroup, steps: "asyncio.Task[_Steps]") -> None:
        await self._bring_up(POSTGRES, self._postgres)  # 2
        self._board.change(POSTGRES, PartPhase.READY, process=self._postgres.process, port=self._postgres.port)
        self._board.announce(postgres=f"{self._postgres.endpoint}/{DATABASE}")
        tasks.create_task(self._keeper.keep(POSTGRES, self._postgres), name=f"keep {POSTGRES}")  # 5
        await self._step(MIGRATIONS, (await steps).migrate(self._postgres.dsn()))  # 3
        self._prepared[POSTGRES].set()

    async def _bring_up(self, name: str, server: Runnable) -> None:
        self._running[name] = server
        self._board.change(name, PartPhase.STARTING)
        await server.start()

    async def _step(self, name: str, action: Awaitable[object]) -> None:
        self._board.change(name, PartPhase.STARTING)
        try:
            await action
        except LocalStackError:
            raise
        except Exception as error:  # what a migration raises is for a person to read, without our frames
            raise LocalStackError(f"The step `{name}` failed: {type(error).__name__}: {error}") from error
        self._board.change(name, PartPhase.READY)

    async def _bring_up_service(self, replica: Replica, tasks: asyncio.TaskGroup) -> None:
        needed = [KAFKA, *([POSTGRES] if replica.row.needs_postgres or replica.row.asks_postgres else [])]
        for server in needed:
            if self._plan.has(server):
                await self._prepared[server].wait()
        service = self._service(replica)
        self._running[service.name] = service
        await service.start(self._held.pop(service.name))  # 4
        self._board.change(
            service.name, PartPhase.STARTING, process=service.process, port=service.port, web_port=service.web_port
        )
        tasks.create_task(self._keeper.watch(service), name=f"watch {service.name}")
        tasks.create_task(self._keeper.keep(service.name, service), name=f"keep {service.name}")  # 5

    def _service(self, replica: Replica) -> ServiceProcess:
        port = self._board.new_port(replica.name)
        web_port = self._board.new_web_port(replica.name, WEB_PORT) if replica.row.serves_web else None
        environment = environment_of(
            replica,
            self._plan,
            bootstrap_servers=self._kafka.endpoint if self._plan.has(KAFKA) else None,
            dsn=self._postgres.dsn() if self._plan.has(POSTGRES) else None,
            port=port,
            web_port=web_port,
        )
        return ServiceProcess(
            replica.name,
            replica.row.module,
            port=port,
            web_port=web_port,
            environment=environment,
            log_path=self._folders.log(replica.name),
            directory=self._directory,
        )

    async def _until_all_ready(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while unready := [part.name for part in self._board.snapshot.parts if part.phase is not PartPhase.READY]:
            if time.monotonic() >= deadline:
                name, log_path = unready[0], self._folders.log(unready[0])
                raise PartDidNotStart(name, f"not ready in {_READY_TIMEOUT_S:.0f} s", log_path, log_tail(log_path))
            await asyncio.sleep(_READY_POLL_S)

    async def _take_down(self) -> None:
        while self._held:
            _, held = self._held.popitem()
            await held.kill()
        servers = {name: self._running.pop(name) for name in (KAFKA, POSTGRES) if name in self._running}
        for layer in (dict(self._running), servers):
            async with asyncio.TaskGroup() as tasks:
                for name, part in layer.items():
                    tasks.create_task(self._stop_part(name, part), name=f"stop {name}")

    async def _stop_part(self, name: str, part: Runnable) -> None:
        await part.stop()
        self._board.change(name, PartPhase.STOPPED)


def _load_steps() -> _Steps:
    """What the steps need takes a second to import, in which the servers start."""
    from conclave import prepare

    return cast(_Steps, prepare)


async def _first_of(waiting: Any, task: "asyncio.Task[None]") -> None:
    """Returns when either ends, the waiting one cancelled if it did not."""
    waiter = asyncio.ensure_future(waiting)
    try:
        await asyncio.wait({waiter, task}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    """The first error of a group of groups."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else cast(BaseException, error)
