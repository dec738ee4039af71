"""The stack: starts every part in order, keeps it running, and takes it down in the opposite order."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from conclave.local.board import Board, DownloadProgress
from conclave.local.errors import LocalStackError, PartDidNotStart
from conclave.local.keeper import Keeper, Runnable
from conclave.local.machine.process import log_tail
from conclave.local.plan import KAFKA, MIGRATIONS, POSTGRES, TOPICS, WEB_PORT, Plan, Replica, environment_of
from conclave.local.servers.kafka import KafkaBroker
from conclave.local.servers.postgres import DATABASE, PostgresServer
from conclave.local.service import ServiceProcess
from conclave.local.state import Folders, PartPhase, Phase, Snapshot, checkout_folder
from conclave.prepare import make_topics, migrate

_READY_POLL_S = 0.1
_READY_TIMEOUT_S = 600.0  # an engine on busy cores may need minutes; what dies is noticed at once


# One small machine: each partition costs every service that reads it a producer, and gains it nothing beyond a few.
_PARTITIONS = 4


class Stack:
    """One run of the stack. `on_change` is told every new snapshot, which is also written to stack.json."""

    def __init__(
        self, plan: Plan, folders: Folders, *, previous: Snapshot | None, on_change: Callable[[Snapshot], None]
    ) -> None:
        self._plan, self._folders = plan, folders
        self._board = Board(folders, previous=previous, on_change=on_change)
        self._keeper = Keeper(self._board)
        self._running: dict[str, Runnable] = {}
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

        1. Start Kafka and PostgreSQL, side by side.
        2. Make the topics, and bring the tables up to date.
        3. Start every service, and wait until all are ready.
        4. Start again, after a pause that grows, whatever dies.
        5. Take all down: services first, so that they drain into servers that still run.

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
            await self._take_down()  # 5
            self._board.announce(phase=Phase.FAILED if self._board.snapshot.failure else Phase.STOPPED)

    async def kill(self) -> None:
        """Ends every part now."""
        for part in list(self._running.values()):
            await part.kill()

    def _names(self) -> list[str]:
        """Every row of the board, in the order in which they become ready."""
        steps = [(name, step) for name, step in ((KAFKA, TOPICS), (POSTGRES, MIGRATIONS)) if self._plan.has(name)]
        replicas = [replica.name for replica in self._plan.service_replicas()]
        return [*(name for name, _ in steps), *(step for _, step in steps), *replicas]

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as servers:
            if self._plan.has(KAFKA):
                servers.create_task(self._bring_up_kafka(), name=KAFKA)
            if self._plan.has(POSTGRES):
                servers.create_task(self._bring_up_postgres(), name=POSTGRES)
        async with asyncio.TaskGroup() as keepers:
            for name, server in list(self._running.items()):
                keepers.create_task(self._keeper.keep(name, server), name=f"keep {name}")  # 4
            for replica in self._plan.service_replicas():
                service = self._service(replica)
                await self._start_service(service)  # 3
                keepers.create_task(self._keeper.watch(service), name=f"watch {service.name}")
                keepers.create_task(self._keeper.keep(service.name, service), name=f"keep {service.name}")
            await self._until_all_ready()
            self._board.announce(phase=Phase.READY)

    async def _bring_up_kafka(self) -> None:
        await self._bring_up(KAFKA, self._kafka)  # 1
        self._board.change(KAFKA, PartPhase.READY, process=self._kafka.process, port=self._kafka.port)
        self._board.announce(bootstrap_servers=self._kafka.endpoint)
        await self._step(TOPICS, make_topics(self._kafka.endpoint, partitions=_PARTITIONS))  # 2

    async def _bring_up_postgres(self) -> None:
        await self._bring_up(POSTGRES, self._postgres)  # 1
        self._board.change(POSTGRES, PartPhase.READY, process=self._postgres.process, port=self._postgres.port)
        self._board.announce(postgres=f"{self._postgres.endpoint}/{DATABASE}")
        await self._step(MIGRATIONS, migrate(self._postgres.dsn()))  # 2

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

    def _service(self, replica: Replica) -> ServiceProcess:
        port = self._board.new_port(replica.name)
        web_port = self._board.new_web_port(replica.name, WEB_PORT) if replica.row.serves_web else None
        uses_postgres = replica.row.needs_postgres and self._plan.has(POSTGRES)
        environment = environment_of(
            replica,
            self._plan,
            bootstrap_servers=self._kafka.endpoint if self._plan.has(KAFKA) else None,
            dsn=self._postgres.dsn() if uses_postgres else None,
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
            directory=checkout_folder() or self._folders.root,
        )

    async def _start_service(self, service: ServiceProcess) -> None:
        self._running[service.name] = service
        await service.start()
        self._board.change(
            service.name, PartPhase.STARTING, process=service.process, port=service.port, web_port=service.web_port
        )

    async def _until_all_ready(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while unready := [part.name for part in self._board.snapshot.parts if part.phase is not PartPhase.READY]:
            if time.monotonic() >= deadline:
                name, log_path = unready[0], self._folders.log(unready[0])
                raise PartDidNotStart(name, f"not ready in {_READY_TIMEOUT_S:.0f} s", log_path, log_tail(log_path))
            await asyncio.sleep(_READY_POLL_S)

    async def _take_down(self) -> None:
        servers = {name: self._running.pop(name) for name in (KAFKA, POSTGRES) if name in self._running}
        for layer in (dict(self._running), servers):
            async with asyncio.TaskGroup() as tasks:
                for name, part in layer.items():
                    tasks.create_task(self._stop_part(name, part), name=f"stop {name}")

    async def _stop_part(self, name: str, part: Runnable) -> None:
        await part.stop()
        self._board.change(name, PartPhase.STOPPED)


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
