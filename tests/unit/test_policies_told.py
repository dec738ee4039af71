"""A decomposer tells which policies it goes by: at its start, when a file has changed, and nothing twice."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from conclave.errors import LostDependency
from conclave.policies.current import CurrentPolicies
from conclave.runtime.record import Output
from conclave.testing import events as made
from schemas import codec
from schemas.events import PoliciesRead
from services.decomposer.announcing import Announcer

POLICY = """
prompt_set = "reasoner-v3"
asks.whole = {{ form = "chain_of_thought", stopping = "fixed", max_samples = {samples} }}
"""


class Log:
    """A broker that keeps what is published, or is away."""

    def __init__(self) -> None:
        self.told: list[PoliciesRead] = []
        self.is_away = False

    def plain_producer(self) -> "Log":
        return self

    async def start(self) -> None:
        if self.is_away:
            raise LostDependency("kafka", "down")

    async def stop(self) -> None:
        pass

    async def publish(self, outputs: Iterable[Output]) -> None:
        for each in outputs:
            event = codec.read(each.topic, tuple(each.headers), each.value)
            assert isinstance(event, PoliciesRead)
            self.told.append(event)

    def said(self, policy: str) -> list[str | None]:
        """Its digest by each read; None where it was not there."""
        return [next((row.digest for row in each.policies if row.policy == policy), None) for each in self.told]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ours.toml").write_text(POLICY.format(samples=3))
    return tmp_path


async def test_each_change_of_a_file_is_told_once_with_its_digest_and_name(folder: Path) -> None:
    policies, log = CurrentPolicies("default", folder), Log()
    announcer = Announcer(policies, log, "here", clock_ms=lambda: made.NOW_MS)  # type: ignore[arg-type]
    for _ in range(2):
        await announcer.tell()
    (folder / "ours.toml").write_text(POLICY.format(samples=11))
    policies.refresh()
    for _ in range(2):
        await announcer.tell()
    (folder / "ours.toml").unlink()
    policies.refresh()
    await announcer.tell()
    first, second, third = log.said("ours@1")
    assert first is not None
    assert second not in (first, None)
    assert third is None
    (row,) = (row for row in log.told[0].policies if row.policy == "ours@1")
    assert (row.file, log.told[0].instance, log.told[0].read_ms) == ("ours.toml", "here", made.NOW_MS)
    assert row.modified_ms > 0
    assert None not in log.said("default@1"), "those that ship, too"


async def test_what_could_not_be_told_is_told_later(folder: Path) -> None:
    log = Log()
    announcer = Announcer(CurrentPolicies("default", folder), log, "here")  # type: ignore[arg-type]
    log.is_away = True
    with pytest.raises(LostDependency):
        await announcer.tell()
    log.is_away = False
    await announcer.tell()
    assert len(log.told) == 1


async def test_a_set_that_is_refused_is_not_told(folder: Path) -> None:
    policies, log = CurrentPolicies("default", folder), Log()
    announcer = Announcer(policies, log, "here")  # type: ignore[arg-type]
    await announcer.tell()
    (folder / "ours.toml").write_text("nonsense = true")
    policies.refresh()
    await announcer.tell()
    assert len(log.told) == 1
