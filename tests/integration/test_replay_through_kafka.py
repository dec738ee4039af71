"""A recorded set through real Kafka: two voter processes, one of them killed on the way, and the paper's exact integers."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from conclave.cli import recordings, through_kafka
from conclave.cli.through_kafka import Voters
from conclave.runtime.client import Client
from schemas.events import StepDecided
from schemas.flow import Topic
from schemas.values import Ask

REPLAY = Path(__file__).parents[1] / "data" / "replay"
NAME = "aime2024_gpt-oss-20b"
EXPECTED: dict[str, Any] = json.loads((REPLAY / "expected.json").read_text())[NAME]["ac_beta_0.95"]


@pytest.mark.timeout(240)
async def test_two_voters_one_of_them_killed_come_to_the_exact_figures(jars_dir: Path) -> None:
    found = recordings.read(REPLAY / f"{NAME}.jsonl.gz")
    golds = [
        json.loads(line)["gold"] for line in gzip.decompress((REPLAY / f"{NAME}.jsonl.gz").read_bytes()).splitlines()
    ]
    ask = Ask(
        form="any",
        equivalence="verbatim",
        max_samples=40,
        stopping="adaptive_consistency",
        params={"stop_confidence": 0.95, "bound": 0.0},
    )
    num_decided_before: list[int] = []

    async with through_kafka.running(2, jars_dir) as voters:

        async def kill_one(num_verdicts: int) -> None:
            if num_verdicts == 3:
                num_decided_before.append(num_verdicts)
                await voters.processes[0].kill()

        async with asyncio.timeout(180):
            verdicts = await voters.verdicts(found, ask, kill_one)
        again = await _verdicts_in_the_log(voters)
    assert num_decided_before == [3], "a voter was killed with most of the set before it"
    figures = {
        "correct": sum(verdicts[place].answer == gold for place, gold in enumerate(golds)),
        "samples": sum(len(each.ballots) for each in verdicts.values()),
        "tokens": sum(ballot.tokens_out for each in verdicts.values() for ballot in each.ballots),
    }
    assert figures == {name: EXPECTED[name] for name in figures}
    assert again == len(found), "no step was decided twice"


async def _verdicts_in_the_log(voters: Voters) -> int:
    async with Client(voters.address) as client:
        return sum(isinstance(event, StepDecided) for event in await client.whole(Topic.STEPS))
