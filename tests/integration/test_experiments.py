"""Two policies that differ, users who say so late, partly and twice: traffic moves to the better one, and all of it verifies."""

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from conclave import prompts
from conclave.domain.equivalence import are_same
from conclave.domain.experiments.verification import check_weights
from conclave.engine.protocol import DecodeRequest
from conclave.engine.scripted import ScriptedEngine
from conclave.local import probe
from conclave.local.servers.kafka import KafkaBroker
from conclave.runtime.client import Client
from conclave.store.learning import Learning
from conclave.store.queries import request_trace
from conclave.testing.pipeline import Pipeline, read_log
from conclave.testing.waiting import until_async
from schemas.events import AnswerReached, FeedbackGiven, ReasoningRequested, WeightsPublished
from schemas.flow import Topic
from schemas.ids import new_request_id
from tests.integration.conftest import own_broker

pytestmark = pytest.mark.timeout(360)

# The vote of `default` is right nearly always, the one path of `single` half the time.
_ACCURACY = 0.5
_TRIAL = """
about = "is a vote worth it?"
control = "vote"
mode = "regret"
window_s = 6
floor = 0.1
max_change = 0.3
min_observations = 8

[arms.vote]
policy = "default"

[arms.one]
policy = "single"
"""
_RAIL = """
[[guardrails]]
metric = { name = "reward" }
at_least = 0.9
"""
_UNSEEN_POLICY = """
prompt_set = "reasoner-v3"
asks.whole = { form = "chain_of_thought", stopping = "fixed", max_samples = 1 }
prices.script = { tokens_out = 1_000_000.0 }
"""
_UNSEEN = """
control = "vote"
[arms.vote]
policy = "default"
[arms.unseen]
policy = "unseen"
[shadow]
share = 1.0
max_dollars_per_day = 1.0
"""


@pytest.fixture(scope="module")
def broker(session_dir: Path, jars_dir: Path) -> Iterator[KafkaBroker]:
    """A broker of this module alone."""
    with own_broker(session_dir / "kafka-experiments", jars_dir, partitions=2) as broker:
        yield broker


@pytest.fixture
async def pipeline(broker: KafkaBroker, fresh_database: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """What it takes to ask, answer, record and learn; the decoder follows a script."""
    settings = {
        "CONCLAVE_SCRIPTED_ACCURACY": str(_ACCURACY),
        "CONCLAVE_SCRIPTED_LATENCY_MS": "1",
        "CONCLAVE_REWEIGHTER_INTERVAL_S": "1",
        "CONCLAVE_POLICIES_DIR": str(tmp_path / "policies"),
    }
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "unseen.toml").write_text(_UNSEEN_POLICY)
    pipeline = Pipeline(broker, fresh_database, tmp_path, settings)
    try:
        for name in ("decomposer", "decoder", "voter", "aggregator", "recorder", "reweighter"):
            await pipeline.add(name)
        await pipeline.until_ready()
        yield pipeline
    finally:
        await pipeline.stop()


class Users:
    """Who ask, and judge what they get: some say nothing, some err, and everything is said twice."""

    def __init__(self, client: Client, seed: int) -> None:
        self._client, self._rng, self._number = client, random.Random(seed), 0
        self.said: list[tuple[FeedbackGiven, str]] = []
        self.asked_last: list[str] = []
        self._script = ScriptedEngine(latency_ms=0, accuracy=1.0)

    async def ask(self, num: int) -> None:
        """Asks so many questions, waits for the answers, and judges them."""
        asked: dict[str, str] = {}
        for _ in range(num):
            self._number += 1
            asked[str(new_request_id())] = f"How much is {self._number} and {self._rng.randrange(10**6)}?"
        self.asked_last = list(asked)
        async with self._client.follow(Topic.ANSWERS) as events, asyncio.TaskGroup() as judging:
            requests = [ReasoningRequested(question=text, request_id=each) for each, text in asked.items()]
            await self._client.publish_many(requests)
            async with asyncio.timeout(60):
                left = set(asked)
                async for _, event in events:
                    if isinstance(event, AnswerReached) and event.request_id in left:
                        left.discard(event.request_id)
                        judging.create_task(self._judge(event, await self._right_answer(asked[event.request_id])))
                    if not left:
                        return

    async def repeat(self) -> None:
        """Everything that was said is said once more."""
        for feedback, event_id in self.said:
            await self._client.publish(feedback, event_id=event_id)

    async def _judge(self, answer: AnswerReached, right: str) -> None:
        if self._rng.random() < 0.2:
            return
        is_right = are_same(answer.answer, right) is not (self._rng.random() < 0.05)
        feedback = FeedbackGiven(request_id=answer.request_id, reward=float(is_right))
        event_id = f"opinion-{answer.request_id}"
        for _ in range(2):
            await self._client.publish(feedback, event_id=event_id)
        self.said.append((feedback, event_id))

    async def _right_answer(self, question: str) -> str:
        form = prompts.load("reasoner-v3").form("chain_of_thought")
        rendered = form.render({"question": question})
        decoded = await self._script.decode(DecodeRequest(sample_id="", messages=rendered.messages))
        return str(form.extract(decoded.text))


async def _conclave(pipeline: Pipeline, folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and output of a command."""
    environment = {
        **os.environ,
        "CONCLAVE_BOOTSTRAP_SERVERS": pipeline.address,
        "CONCLAVE_POSTGRES_DSN": pipeline.dsn,
        "CONCLAVE_EXPERIMENTS_DIR": str(folder),
        "CONCLAVE_POLICIES_DIR": pipeline.settings["CONCLAVE_POLICIES_DIR"],
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "conclave.cli",
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def _in_force(pipeline: Pipeline) -> dict[str, int]:
    """The experiments that the decomposer assigns by, and the version of each one's weights."""
    told = json.loads((await probe.readiness(pipeline.services["decomposer"].url)).body)
    found: dict[str, int] = told["experiments"]
    return found


async def _weights(client: Client) -> list[WeightsPublished]:
    return [event for event in await client.whole(Topic.WEIGHTS) if isinstance(event, WeightsPublished)]


async def test_traffic_moves_to_the_better_policy_and_everything_verifies(pipeline: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "trial.toml").write_text(_TRIAL)
    async with Client(pipeline.address) as client, _learning(pipeline) as learning:
        users = Users(client, seed=1)
        status, said = await _conclave(pipeline, folder, "experiment", "start", "trial", "--why", "to see")
        assert (status, said) == (0, "trial: running, revision 1\n")

        async def is_running() -> bool:
            return "trial" in await _in_force(pipeline)

        await until_async(is_running, what="the experiment at the decomposer")
        for round_ in range(3):
            await users.ask(40)
            if round_ == 1:  # kill -9, in the middle of what it learns
                await pipeline.services["reweighter"].kill()
                await pipeline.services["reweighter"].start()

        async def has_moved() -> bool:
            return bool(found := await _weights(client)) and found[-1].allocation["vote"] > 0.75

        await until_async(has_moved, limit_s=60, what="traffic at the better arm")
        await _verify(pipeline, folder)
        await _say_everything_again(learning, users)
        await _kill_within_a_second(pipeline, client, users, folder)
        await _break_a_guardrail(pipeline, client, users, folder)
        await _verify(pipeline, folder)
        assert list(check_weights(await learning.changes("trial"), await learning.versions("trial"))) == []
        await _try_unseen(pipeline, client, users, folder)


@asynccontextmanager
async def _learning(pipeline: Pipeline) -> AsyncIterator[Learning]:
    learning = Learning(pipeline.dsn)
    try:
        yield learning
    finally:
        await learning.close()


async def _verify(pipeline: Pipeline, folder: Path) -> None:
    status, said = await _conclave(pipeline, folder, "experiment", "verify", "trial")
    assert status == 0, said
    assert ", 0 deviations" in said


async def _say_everything_again(learning: Learning, users: Users) -> None:
    """Every word a third time: no count changes."""
    (change,) = await learning.changes("trial")
    now_ms = time.time_ns() // 1_000_000 + 10_000
    before, seen = await learning.evidence(change, since_ms=change.changed_ms, as_of_ms=now_ms)
    num = sum(cell.counts.num_observed for cell in before.cells if cell.metric == "reward")
    assert 60 <= num <= len(users.said), "what came after its window, on a machine that is busy, does not count"
    await users.repeat()

    async def is_recorded() -> bool:
        _, offsets = await learning.evidence(change, since_ms=change.changed_ms, as_of_ms=now_ms)
        heard = [offsets[place] - seen[place] for place in seen if place.startswith(Topic.FEEDBACK.value)]
        return sum(heard) >= len(users.said)

    await until_async(is_recorded, what="the repetition in the record")
    after, _ = await learning.evidence(change, since_ms=change.changed_ms, as_of_ms=now_ms)
    assert after == before
    again, _ = await learning.evidence(change, since_ms=change.changed_ms, as_of_ms=now_ms, watermark=seen)
    assert again == before


async def _kill_within_a_second(pipeline: Pipeline, client: Client, users: Users, folder: Path) -> None:
    """A kill is in force within a second after it was published."""
    async with client.follow(Topic.EXPERIMENTS) as events:
        killing = asyncio.create_task(_conclave(pipeline, folder, "experiment", "kill", "trial", "--why", "a drill"))
        await anext(events)
        published_s = time.monotonic()
        while "trial" in await _in_force(pipeline):
            assert time.monotonic() - published_s < 1.0, "a kill takes more than a second"
        assert (await killing)[0] == 0
    num_assigned = len(await _assigned(pipeline, users))
    await users.ask(10)
    assert len(await _assigned(pipeline, users)) == num_assigned


async def _break_a_guardrail(pipeline: Pipeline, client: Client, users: Users, folder: Path) -> None:
    """The run after: its users are not content with one path, and all traffic goes back to the vote."""
    (folder / "trial.toml").write_text(_TRIAL + _RAIL)
    status, said = await _conclave(pipeline, folder, "experiment", "start", "trial", "--why", "with a guardrail")
    assert (status, said) == (0, "trial: running, revision 2\n")
    for _ in range(3):
        await users.ask(40)

    async def is_out() -> bool:
        if (await _weights(client))[-1].out == {"one": "reward"}:
            return True
        await users.ask(20)  # on a machine that is busy some of what was said came after its window
        return False

    await until_async(is_out, limit_s=120, what="the guardrail's alarm")
    seen_s, version = time.monotonic(), (await _weights(client))[-1].version
    while (await _in_force(pipeline))["trial"] < version:
        assert time.monotonic() - seen_s < 1.0, "a roll-back takes more than a second"
    before = Counter(arm for arm, revision in await _assigned(pipeline, users) if revision == 2)
    await users.ask(20)
    after = Counter(arm for arm, revision in await _assigned(pipeline, users) if revision == 2)
    assert after - before == {"vote": 20}


async def _assigned(pipeline: Pipeline, users: Users) -> list[tuple[str, int]]:
    """Arm and revision of every assignment, once the plans of all that was asked last are recorded."""

    async def is_planned() -> bool:
        traces = [await request_trace(pipeline.dsn, each) for each in users.asked_last]
        return all(trace["request"] and trace["request"][0]["policy_digest"] for trace in traces)

    await until_async(is_planned, what="the plans in the record")
    async with _learning(pipeline) as learning:
        return [(each.arm, each.revision) for each in await learning.assignments("trial")]


async def _try_unseen(pipeline: Pipeline, client: Client, users: Users, folder: Path) -> None:
    """A policy answers copies that nobody sees, until the day's money is spent: then there are no more."""
    (folder / "shadow.toml").write_text(_UNSEEN)  # before `trial` by name, so it is this one that assigns
    status, said = await _conclave(
        pipeline, folder, "experiment", "start", "shadow", "--why", "to see what nobody sees"
    )
    assert status == 0, said

    async def is_running() -> bool:
        return "shadow" in await _in_force(pipeline)

    async def is_spent() -> bool:
        return any(each.reason == "spent" and each.experiment == "shadow" for each in await _weights(client))

    async def is_in_force() -> bool:
        return (await _in_force(pipeline))["shadow"] > 0

    await until_async(is_running, what="the shadow at the decomposer")
    await users.ask(10)
    await until_async(is_spent, what="a version of the weights that says so")
    await until_async(is_in_force, what="that version at the decomposer")
    num_copies = await _num_copies(pipeline)
    await users.ask(10)
    assert 1 <= num_copies == await _num_copies(pipeline)
    async with _learning(pipeline) as learning:

        async def are_seen() -> bool:
            return [each["requests"] for each in await learning.shadows("shadow")] == [num_copies]

        await until_async(are_seen, what="both answers to each in the record")
        (change,), versions = await learning.changes("shadow"), await learning.versions("shadow")
        assert list(check_weights([change], versions)) == []
        again, _ = await learning.evidence(
            change, since_ms=change.changed_ms, as_of_ms=versions[0].as_of_ms, watermark=versions[0].watermark
        )
        assert again.spent_micro == versions[0].spent_micro >= 1_000_000
    status, said = await _conclave(pipeline, folder, "experiment", "report", "shadow")
    assert f"shadow unseen beside default: {num_copies} requests" in said


async def _num_copies(pipeline: Pipeline) -> int:
    """How many copies there are: each was published together with the plan of what it copies."""
    events = [event for _, event, _ in await read_log(pipeline.address, [Topic.REQUESTS])]
    return len({each.request_id for each in events if isinstance(each, ReasoningRequested) and each.shadow})
