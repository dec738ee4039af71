"""`python -m benchmarks.learning_live`: what reweighting alone is worth to users, on the shipped model and real services.

Three ways of reasoning that differ by far: an answer at once, one chain of thought, a vote of paths with a calculator. Users ask
the held-out problems and accept what is right: late, one in five says nothing, one in twenty errs. No one else decides anything;
the experiment (`mode = "regret"`) deals out traffic by what they say.

Told is the share of answers that are right and the share accepted, wave by wave, and the rise from the first wave, which is dealt
evenly, to the last two, with a lower bound that holds whenever one looks (conclave.domain.statistics.betting).
"""

import asyncio
import itertools
import json
import math
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from benchmarks.measuring import record
from benchmarks.stack import stack, vllm_on_one_core
from conclave.domain.equivalence import are_same
from conclave.domain.statistics.betting import Outcomes, log_evidence_of_lead
from conclave.local import probe
from conclave.runtime.client import Client
from conclave.testing.pipeline import Pipeline
from conclave.testing.waiting import until_async
from schemas.events import AnswerReached, FeedbackGiven, ReasoningRequested, RequestFailed, WeightsPublished
from schemas.flow import Topic
from schemas.ids import new_request_id

_CHECKOUT = Path(__file__).resolve().parents[1]
_RISK = 0.05
_SAYS_NOTHING, _ERRS = 0.2, 0.05
_EXPERIMENT = """
about = "which way of reasoning is liked?"
control = "one"
mode = "regret"
window_s = 120
floor = 0.05
max_change = 0.4
min_observations = 10
arms.at_once.policy = "direct"
arms.one.policy = "single"
arms.calculator.policy = "tool"
"""
_SETTINGS = {
    "CONCLAVE_ENGINE": "vllm",
    "CONCLAVE_MODEL": str(_CHECKOUT / "models" / "reasoner"),
    "CONCLAVE_REWEIGHTER_INTERVAL_S": "1",
}


@dataclass
class Wave:
    """What came of the questions that were asked at once."""

    allocation: Mapping[str, float]
    num_asked: int = 0
    num_right: int = 0
    said: list[float] = field(default_factory=list)  # 1 for an answer that was accepted

    def told(self) -> dict[str, object]:
        return {
            "allocation": {arm: round(share, 3) for arm, share in self.allocation.items()},
            "right_pct": round(100 * self.num_right / self.num_asked, 1),
            "accepted_pct": round(100 * sum(self.said) / max(1, len(self.said)), 1),
            "num_said": len(self.said),
        }


class Users:
    """Who ask the held-out problems, one after the other, and accept what is right."""

    def __init__(self, client: Client, seed: int) -> None:
        rows = [json.loads(line) for line in (_CHECKOUT / "data/problems/test.jsonl").read_text().splitlines()]
        random.Random(seed).shuffle(rows)
        self._client, self._rng = client, random.Random(seed)
        self._problems: Iterator[dict[str, str]] = itertools.cycle(rows)

    async def ask(self, num: int, allocation: Mapping[str, float]) -> Wave:
        """Asks so many problems at once, and says of each answer what there is to say, late or never."""
        wave, answers = Wave(allocation), {str(new_request_id()): next(self._problems) for _ in range(num)}
        async with self._client.follow(Topic.ANSWERS) as events, asyncio.TaskGroup() as saying, asyncio.timeout(900):
            await self._client.publish_many(
                ReasoningRequested(question=row["question"], request_id=each) for each, row in answers.items()
            )
            async for _, event in events:
                if isinstance(event, AnswerReached | RequestFailed) and (row := answers.pop(event.request_id, None)):
                    given = event.answer if isinstance(event, AnswerReached) else None
                    is_right = given is not None and are_same(given, row["answer"])
                    wave.num_asked, wave.num_right = wave.num_asked + 1, wave.num_right + is_right
                    if self._rng.random() >= _SAYS_NOTHING:
                        wave.said.append(float(is_right is not (self._rng.random() < _ERRS)))
                        saying.create_task(self._say(event.request_id, wave.said[-1], 3 * self._rng.random()))
                if not answers:
                    break
        return wave

    async def _say(self, request_id: str, reward: float, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._client.publish(FeedbackGiven(request_id=request_id, reward=reward))


async def _start(pipeline: Pipeline) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "liked.toml").write_text(_EXPERIMENT)
        more = {
            "CONCLAVE_BOOTSTRAP_SERVERS": pipeline.address,
            "CONCLAVE_POSTGRES_DSN": pipeline.dsn,
            "CONCLAVE_EXPERIMENTS_DIR": folder,
        }
        command = [sys.executable, "-m", "conclave.cli", "experiment", "start", "liked", "--why", "a benchmark"]
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **more})
        assert await process.wait() == 0

    async def is_running() -> bool:
        told = json.loads((await probe.readiness(pipeline.services["decomposer"].url)).body)
        return "liked" in told["experiments"]

    await until_async(is_running, what="the experiment at the decomposer")


async def _allocation(client: Client) -> Mapping[str, float]:
    found = [event for event in await client.whole(Topic.WEIGHTS) if isinstance(event, WeightsPublished)]
    return found[-1].allocation if found else {}


async def _learned(client: Client, num_versions: int) -> int:
    """How many versions of the weights there are, once there are more than `num_versions`, or none came for ten looks."""
    for _ in range(10):
        found = sum(isinstance(event, WeightsPublished) for event in await client.whole(Topic.WEIGHTS))
        if found > num_versions:
            return found
        await asyncio.sleep(1.0)
    return num_versions


async def waves(num_waves: int, num_asked: int, seed: int) -> list[Wave]:
    """What users said, wave by wave."""
    found: list[Wave] = []
    async with stack(_SETTINGS | vllm_on_one_core()) as (pipeline, _), Client(pipeline.address) as client:
        await _start(pipeline)
        users, versions = Users(client, seed), 0
        for _ in range(num_waves):
            found.append(await users.ask(num_asked, await _allocation(client)))
            print(f"  wave {len(found)}  {found[-1].told()}", flush=True)
            versions = await _learned(client, versions)
    return found


def rise(found: list[Wave]) -> dict[str, object]:
    """The share of accepted answers of the last two waves against the first, and by how many points it rose at least."""
    first, last = _outcomes(found[:1]), _outcomes(found[-2:])
    return {
        "accepted_at_first_pct": round(100 * first.mean, 1),
        "accepted_at_last_pct": round(100 * last.mean, 1),
        "rise_pct": round(100 * (last.mean / first.mean - 1), 1),
        "log_evidence_of_a_rise": round(log_evidence_of_lead(last, first), 2),
        "rise_at_least_points": round(100 * _surely(last, first), 1),
    }


def _outcomes(found: list[Wave]) -> Outcomes:
    return Outcomes(sum(len(wave.said) for wave in found), sum(sum(wave.said) for wave in found))


def _surely(last: Outcomes, first: Outcomes) -> float:
    """The greatest lead, 0 to 1, that the evidence is against falling short of, at `_RISK`; 0 where there is none."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        is_sure = log_evidence_of_lead(last, first, middle) >= math.log(1 / _RISK)
        low, high = (middle, high) if is_sure else (low, middle)
    return low


@click.command()
@click.option("--waves", "num_waves", default=3, show_default=True)
@click.option("--asked", default=120, show_default=True, help="Problems of each wave.")
@click.option("--seed", default=1, show_default=True)
def main(num_waves: int, asked: int, seed: int) -> None:
    """See the module's docstring."""
    found = asyncio.run(waves(num_waves, asked, seed))
    right = Counter({"num": sum(wave.num_asked for wave in found), "right": sum(wave.num_right for wave in found)})
    figures = {"waves": [wave.told() for wave in found], "all": dict(right), **rise(found)}
    click.echo(record("learning_live", figures))
    click.echo({name: value for name, value in figures.items() if name != "waves"})


if __name__ == "__main__":
    main()
