"""Tenants whose content is off: of theirs only figures are kept, and answers are read from the log while it has them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from conclave.domain.api_keys import Scope
from conclave.errors import LostDependency
from conclave.runtime.record import Output, Tp, output_of
from conclave.testing import events as made
from schemas.events import Event, RequestFailed
from schemas.flow import Topic
from schemas.values import RequestFailure
from services.gateway.logged_ends import LoggedEnds
from services.gateway.results import of_row
from tests.gateway_in_memory import World, answering

QUESTION = {"question": "What is 6 times 6?"}
ANSWERS = Tp(Topic.ANSWERS.value, 0)


@dataclass
class MemoryLog:
    """A partition of `reasoning.answers` from `begin` on, and a broker that hands out readers of it."""

    records: list[Event]
    begin: int = 0
    is_away: bool = False
    position: int = 0
    num_started: int = 0
    num_stopped: int = 0

    def log_reader(self) -> Any:
        return self

    async def start(self) -> None:
        self.num_started += 1

    async def stop(self) -> None:
        self.num_stopped += 1

    async def begin_offsets(self, partitions: Collection[Tp]) -> dict[Tp, int]:
        if self.is_away:
            raise LostDependency("kafka", "it is away")
        return dict.fromkeys(partitions, self.begin)

    def assign(self, positions: Mapping[Tp, int]) -> None:
        ((self_tp, self.position),) = positions.items()
        assert self_tp == ANSWERS

    async def poll(self, *, timeout_ms: int, max_records: int) -> list[Any]:
        output: Output = output_of(
            self.records[self.position - self.begin], service="aggregator", event_id="e", parent=None, now_ms=0
        )
        return [_Stored(output.topic, 0, self.position, output.key, output.value, tuple(output.headers))]


@dataclass(frozen=True)
class _Stored:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Any
    timestamp: int = 0


@dataclass
class Bare:
    """A record that has the figures of requests, and where their ends lie."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def of(self, request_ids: Collection[str]) -> Mapping[str, Any]:
        return {}

    async def request(self, request_id: str) -> dict[str, Any] | None:
        return None

    async def ends(self, request_ids: Collection[str]) -> Mapping[str, dict[str, Any]]:
        return {each: self.rows[each] for each in request_ids if each in self.rows}


def _row(content: str, *, offset: int | None = 7, failure: str | None = None) -> dict[str, Any]:
    return {
        "request_id": made.REQUEST_ID, "content": content, "failure": failure, "answer": None, "message": None, "steps": "",
        "tally": "", "fields": None, "confidence": 0.9, "log_partition": 0, "log_offset": offset,
    }  # fmt: skip


ANSWER = made.answer("36")
FAILURE = RequestFailed(request_id=made.REQUEST_ID, failure=RequestFailure.NO_ANSWER, message="no luck")


async def test_an_end_whose_words_are_not_kept_is_told_from_the_log() -> None:
    log, record = MemoryLog([ANSWER, FAILURE], begin=7), Bare({made.REQUEST_ID: _row("off")})
    ends = LoggedEnds(record, log)  # type: ignore[arg-type]
    result = of_row((await ends.ends([made.REQUEST_ID]))[made.REQUEST_ID])
    assert (result.status, result.answer, result.content) == ("answered", "36", "off")
    assert result.tally == ANSWER.tally
    record.rows[made.REQUEST_ID] = _row("off", offset=8, failure="no_answer")
    result = of_row((await ends.ends([made.REQUEST_ID]))[made.REQUEST_ID])
    assert (result.failure, result.message) == ("no_answer", "no luck")
    assert log.num_started == 1, "a reader is kept"
    await ends.close()
    assert log.num_stopped == 1


@pytest.mark.parametrize(
    ("row", "log"),
    [
        (_row("kept"), MemoryLog([ANSWER], begin=7)),
        (_row("erased"), MemoryLog([ANSWER], begin=7)),
        (_row("off", offset=None), MemoryLog([ANSWER], begin=7)),
        (_row("off"), MemoryLog([ANSWER], begin=8)),
        (_row("off"), MemoryLog([made.answer("36", request_id=made.REQUEST_ID[:-1] + "0")], begin=7)),
        (_row("off"), MemoryLog([made.plan()], begin=7)),
    ],
    ids=["kept", "erased", "from before offsets were kept", "forgotten", "another's", "no end"],
)
async def test_what_the_log_does_not_say_of_it_is_not_told(row: dict[str, Any], log: MemoryLog) -> None:
    ends = LoggedEnds(Bare({made.REQUEST_ID: row}), log)  # type: ignore[arg-type]
    result = of_row((await ends.ends([made.REQUEST_ID]))[made.REQUEST_ID])
    assert (result.status, result.answer, result.confidence) == ("answered", None, 0.9)


async def test_while_the_log_is_away_nothing_is_told_wrong() -> None:
    log = MemoryLog([ANSWER], begin=7, is_away=True)
    ends = LoggedEnds(Bare({made.REQUEST_ID: _row("off")}), log)  # type: ignore[arg-type]
    with pytest.raises(LostDependency):
        await ends.ends([made.REQUEST_ID])
    assert log.num_stopped == 1
    log.is_away = False
    assert (await ends.ends([made.REQUEST_ID]))[made.REQUEST_ID]["answer"] == "36"


async def test_the_ledger_knows_whose_words_are_not_kept_before_the_log_has_any() -> None:
    world = World(answering("36"))
    silent, ours = world.accounts.add("silent", Scope.ASK, is_kept=False), world.accounts.add("ours", Scope.ASK)
    async with world.serving() as client:
        for key in (silent, ours):
            headers = {"Authorization": f"Bearer {key.text}"}
            assert (await client.post("/v1/requests", json=QUESTION, headers=headers)).status_code == 202
        world.is_log_away = True
        headers = {"Authorization": f"Bearer {silent.text}"}
        assert (await client.post("/v1/requests", json=QUESTION, headers=headers)).status_code == 503
    kept = [(entry.tenant, entry.is_kept) for entry in world.ledger.entries.values()]
    assert kept == [("silent", False), ("ours", True), ("silent", False)], (
        "the log may have what seemed not to be taken"
    )


async def test_no_file_is_kept_of_a_tenant_whose_content_is_off() -> None:
    world = World()
    key = world.accounts.add("silent", Scope.ASK, is_kept=False)
    async with world.serving() as client:
        headers = {"Authorization": f"Bearer {key.text}"}
        form: Any = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", b"{}\n")}}
        sent = await client.post("/v1/files", **form, headers=headers)
        wanted = {"input_file_id": "file-a", "endpoint": "/v1/chat/completions", "completion_window": "1h"}
        begun = await client.post("/v1/batches", json=wanted, headers=headers)
    for refused in (sent, begun):
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "content_off")
    assert world.files.rows == {}


async def test_an_answer_that_nobody_has_any_more_is_gone_and_not_wrong() -> None:
    world = World()
    chat = {"model": "conclave", "messages": [{"role": "user", "content": "What is 6 times 6?"}]}
    async with world.serving() as client:
        headers = {"Idempotency-Key": "k"}
        world.answer = answering("36")
        first = await client.post("/v1/chat/completions", json=chat, headers=headers)
        assert first.status_code == 200
        (request_id,) = world.record.ended
        world.record.blank(request_id)
        again = await client.post("/v1/chat/completions", json=chat, headers=headers)
        state = await client.get(f"/v1/requests/{request_id}")
    assert (again.status_code, again.json()["error"]["code"]) == (410, "content_not_kept")
    assert (state.json()["status"], state.json()["result"]["content"]) == ("answered", "erased")
