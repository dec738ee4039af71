"""The reweighter's loop: what is kept is published, once or again, and a crash anywhere changes nothing."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping

import pytest

from conclave.domain.experiments.evidence import Cell, Evidence
from conclave.domain.experiments.verification import check_weights
from conclave.errors import LostDependency
from conclave.runtime.attempts import Dependencies
from conclave.runtime.record import Output
from conclave.testing import events as made
from conclave.testing.waiting import until
from schemas import codec
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.experiments import Change, MetricCounts, Mode
from services.reweighter.reweighter import Reweighter

DEFINITION = made.experiment(mode=Mode.REGRET)


class Record:
    """The record as the reweighter sees it: changes, counts, and the versions that are kept."""

    def __init__(self, *changes: ExperimentChanged) -> None:
        self.history = list(changes)
        self.counts = {"a": (40, 18.0), "b": (40, 22.0)}
        self.versions: list[WeightsPublished] = []
        self.is_away = False

    async def changes(self, experiment: str = "") -> list[ExperimentChanged]:
        if self.is_away:
            raise LostDependency("postgres", "down")
        return list(self.history)

    async def latest(self, experiment: str) -> WeightsPublished | None:
        return next((each for each in reversed(self.versions) if each.experiment == experiment), None)

    async def keep(self, weights: WeightsPublished, now_ms: int) -> bool:
        if any((each.experiment, each.version) == (weights.experiment, weights.version) for each in self.versions):
            return False
        self.versions.append(weights)
        return True

    async def evidence(
        self, change: ExperimentChanged, *, since_ms: int, as_of_ms: int, after: WeightsPublished | None = None
    ) -> tuple[Evidence, Mapping[str, int]]:
        cells = [
            Cell("reward", arm, 0, 0, MetricCounts(num_units=num, num_observed=num, sum_micro=round(total * 1e6)))
            for arm, (num, total) in self.counts.items()
        ]
        return Evidence(tuple(cells), as_of_ms), {"reasoning.feedback/0": sum(num for num, _ in self.counts.values())}


class Log:
    """A broker that keeps what is published, or dies of it."""

    def __init__(self) -> None:
        self.published: list[Output] = []
        self.before: Callable[[], None] = lambda: None

    def plain_producer(self) -> "Log":
        return self

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def publish(self, outputs: Iterable[Output]) -> None:
        self.before()
        self.published += outputs

    @property
    def weights(self) -> list[WeightsPublished]:
        found = [codec.read(each.topic, tuple(each.headers), each.value) for each in self.published]
        return [each for each in found if isinstance(each, WeightsPublished)]


def reweighter(record: Record, log: Log) -> Reweighter:
    return Reweighter(record, log, Dependencies(), interval_s=0.01, clock_ms=lambda: made.NOW_MS)  # type: ignore[arg-type]


@pytest.fixture
def record() -> Record:
    return Record(made.started(DEFINITION))


async def test_a_version_is_kept_and_published_once_until_there_is_more_to_say(record: Record) -> None:
    log = Log()
    process = reweighter(record, log)
    for _ in range(12):
        await process.look()
    assert [each.version for each in log.weights] == list(range(1, len(log.weights) + 1))
    assert log.weights == record.versions
    num = len(log.weights)
    record.counts["b"] = (80, 70.0)
    await process.look()
    assert len(log.weights) == num + 1
    assert list(check_weights(record.history, record.versions)) == []


async def test_what_was_kept_when_the_process_died_is_published_by_the_next_one(record: Record) -> None:
    log = Log()

    def die() -> None:
        raise asyncio.CancelledError

    log.before = die
    with contextlib.suppress(asyncio.CancelledError):
        await reweighter(record, log).look()
    assert (len(record.versions), log.published) == (1, [])
    log.before = lambda: None
    record.counts = {"a": (0, 0.0), "b": (0, 0.0)}  # nothing more to say
    await reweighter(record, log).look()
    assert log.weights == record.versions


async def test_a_version_published_again_is_the_same_to_the_byte(record: Record) -> None:
    log = Log()
    await reweighter(record, log).look()
    record.counts = {"a": (0, 0.0), "b": (0, 0.0)}
    await reweighter(record, log).look()
    once, again = log.published
    assert (once.value, once.key) == (again.value, again.key)
    ids = [[value for name, value in each.headers if name == "ce_id"] for each in (once, again)]
    assert ids[0] == ids[1]


async def test_of_two_reweighters_the_first_to_keep_a_number_has_it_and_both_publish_that_one(record: Record) -> None:
    first, second = Log(), Log()
    processes = [reweighter(record, first), reweighter(record, second)]
    for _ in range(6):
        await asyncio.gather(*(process.look() for process in processes))
    assert first.weights[-1] == second.weights[-1] == record.versions[-1]
    assert len({each.version for each in record.versions}) == len(record.versions)
    assert list(check_weights(record.history, record.versions)) == []


@pytest.mark.parametrize("change", [Change.STOP, Change.KILL])
async def test_what_was_stopped_gets_no_weights_any_more(record: Record, change: Change) -> None:
    log = Log()
    process = reweighter(record, log)
    await process.look()
    record.history.append(made.started(DEFINITION, change=change))
    record.counts["b"] = (400, 390.0)
    num = len(log.weights)
    await process.look()
    assert len(log.weights) == num
    record.history.append(made.started(DEFINITION, revision=2))
    await process.look()
    assert (log.weights[-1].revision, log.weights[-1].version) == (2, num + 1)
    assert list(check_weights(record.history, record.versions)) == []


async def test_it_waits_for_a_database_that_is_away_and_says_so(record: Record) -> None:
    log, dependencies = Log(), Dependencies()
    process = Reweighter(record, log, dependencies, interval_s=0.01)  # type: ignore[arg-type]
    record.is_away = True
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(process.run())
        await until(lambda: "postgres" in dependencies.away, what="the database to be missed")
        assert not process.is_ready
        record.is_away = False
        await until(lambda: bool(log.published), what="weights")
        await until(lambda: process.is_ready, what="readiness")
        process.stop()
    assert not process.is_ready
    assert "trial" in str(process.status())
