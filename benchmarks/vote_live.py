"""`python -m benchmarks.vote_live`: a budget of 40 paths a question, live: services, vLLM, the shipped model, held-out problems.

The rule of policy `confident` with waves and 40 paths at most is asked through Kafka. The full vote of 40 on the same problems is
counted from what the same model was recorded to say (tests/data/replay_own): sampling it again would take an hour on two cores.
Told are accuracies, paths and tokens, and the share of the full vote's tokens that the rule wrote.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from benchmarks.measuring import record
from benchmarks.stack import stack, vllm_on_one_core
from conclave.cli import recordings
from conclave.domain import counting
from conclave.domain.comparison import NUM_DRAWS
from conclave.domain.equivalence import are_same
from conclave.domain.replay import Recording
from conclave.runtime.client import Client
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id
from schemas.values import Ask, StopReason

_CHECKOUT = Path(__file__).resolve().parents[1]
_RECORDED = _CHECKOUT / "tests/data/replay_own/reasoner_held-out.jsonl.gz"
_BUDGET, _POLICY = 40, "confident-in-waves"
_AT_ONCE = 100  # questions under way
SETTINGS = {"CONCLAVE_ENGINE": "vllm", "CONCLAVE_MODEL": str(_CHECKOUT / "models" / "reasoner")}


@dataclass(frozen=True, slots=True)
class Came:
    """What a question came to, and what it cost."""

    is_right: bool
    paths: int
    tokens: int


def _with_policy(folder: str) -> str:
    """The folder, with `confident` as it ships but for its schedule: what is cancelled is no part of what a rule costs."""
    shipped = (_CHECKOUT / "conclave" / "policies" / "confident.toml").read_text()
    Path(folder, f"{_POLICY}.toml").write_text(shipped.replace('schedule = "auto"', 'schedule = "waves"'))
    return folder


async def live(problems: Sequence[Mapping[str, str]]) -> list[Came]:
    """What became of each problem, asked with the budget of 40."""
    with TemporaryDirectory() as folder:
        settings = {**SETTINGS, **vllm_on_one_core(), "CONCLAVE_POLICIES_DIR": _with_policy(folder)}
        async with stack(settings) as (pipeline, _), Client(pipeline.address) as client:
            return [
                came
                for first in range(0, len(problems), _AT_ONCE)
                for came in (await asked_at_once(client, problems[first : first + _AT_ONCE], _POLICY, _BUDGET))[1]
            ]


async def asked_at_once(
    client: Client, problems: Sequence[Mapping[str, str]], policy: str, budget: int
) -> tuple[float, list[Came]]:
    """Seconds from publishing all problems to the last answer, and what became of each."""
    asked = {str(new_request_id()): problem for problem in problems}
    came: dict[str, Came] = {}
    async with client.follow(Topic.ANSWERS) as events, asyncio.timeout(1800):
        started = time.perf_counter()
        await client.publish_many(
            ReasoningRequested(question=each["question"], request_id=id_, policy=policy, max_samples=budget)
            for id_, each in asked.items()
        )
        async for _, event in events:
            if isinstance(event, AnswerReached | RequestFailed) and event.request_id in asked:
                answer = event.answer if isinstance(event, AnswerReached) else ""
                is_right = bool(answer) and are_same(answer, asked[event.request_id]["answer"])
                came[event.request_id] = Came(is_right, event.num_paths, event.tokens_out)
                if len(came) == len(asked):
                    break
    seconds = time.perf_counter() - started
    print(f"{len(came)} answered, {sum(each.is_right for each in came.values())} right", flush=True)
    return seconds, [came[each] for each in asked]


def full_vote(question: Recording) -> Came:
    """What all 40 recorded paths come to by the plain vote."""
    ask = Ask(form="any", max_samples=_BUDGET)
    ballots = question.ballots[:_BUDGET]
    answer = counting.count(ballots, ask, reason=StopReason.EXHAUSTED).result.answer
    is_right = answer is not None and are_same(answer, question.gold or "")
    return Came(is_right, len(ballots), sum(each.tokens_out for each in ballots))


def told(came: Sequence[Came], full: Sequence[Came]) -> dict[str, object]:
    """Both ways' figures, and their difference with its 95 % interval by a paired bootstrap over questions."""
    right = np.array([[each.is_right for each in way] for way in (came, full)], dtype=float)
    tokens = np.array([[each.tokens for each in way] for way in (came, full)], dtype=float)
    drawn = np.random.default_rng(0).integers(0, len(came), size=(NUM_DRAWS, len(came)))
    change = 100 * (right[0] - right[1])
    rows = {
        name: {
            "right_pct": round(100 * float(right[at].mean()), 2),
            "paths": round(sum(each.paths for each in way) / len(way), 3),
            "tokens": round(float(tokens[at].mean()), 1),
        }
        for at, (name, way) in enumerate([("live", came), ("full vote, recorded", full)])
    }
    return {
        **rows,
        "change_points": round(float(change.mean()), 2),
        "change_interval": [round(float(each), 2) for each in np.percentile(change[drawn].mean(axis=1), (2.5, 97.5))],
        "share_of_tokens": round(float(tokens[0].sum() / tokens[1].sum()), 3),
    }


@click.command()
@click.option("--problems", "num_problems", default=500, show_default=True)
def main(num_problems: int) -> None:
    """See the module's docstring."""
    lines = (_CHECKOUT / "data/problems/test.jsonl").read_text().splitlines()
    problems = [json.loads(line) for line in lines[:num_problems]]
    recorded = {each.id: each for each in recordings.read(_RECORDED)}
    full = [full_vote(recorded[each["id"]]) for each in problems]
    figures = told(asyncio.run(live(problems)), full)
    click.echo(record("vote_live", {"problems": len(problems), "budget": _BUDGET, "policy": _POLICY, **figures}))
    click.echo(figures)


if __name__ == "__main__":
    main()
