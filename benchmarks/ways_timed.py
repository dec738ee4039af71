"""`python -m benchmarks.ways_timed`: how long each way of reasoning takes to answer, live, one question at a time on an idle stack.

Services, vLLM and the shipped model; the first held-out problems, policy by policy for each problem, so that what else the machine
does falls on all alike. Told are the median and the longest seconds from asking to the answer, with steps and paths.
"""

import asyncio
import json
import statistics
import time
from pathlib import Path

import click

from benchmarks.measuring import record
from benchmarks.stack import stack, vllm_on_one_core
from conclave.runtime.client import Client
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

_CHECKOUT = Path(__file__).resolve().parents[1]
_SETTINGS = {"CONCLAVE_ENGINE": "vllm", "CONCLAVE_MODEL": str(_CHECKOUT / "models" / "reasoner")}
_POLICIES = ("single", "default", "least-to-most", "self-ask", "tree", "tree-checked", "criticised", "rounds")


async def _asked(client: Client, question: str, policy: str) -> tuple[float, int, int]:
    """Seconds to the end, steps and paths."""
    request = ReasoningRequested(question=question, request_id=new_request_id(), policy=policy)
    async with client.follow(Topic.ANSWERS) as events, asyncio.timeout(300):
        started = time.perf_counter()
        await client.publish(request)
        async for _, event in events:
            if isinstance(event, AnswerReached | RequestFailed) and event.request_id == request.request_id:
                num_steps = len(event.steps) if isinstance(event, AnswerReached) else 0
                return time.perf_counter() - started, num_steps, event.num_paths
    raise AssertionError("answers ended before this one came")


async def measure(num_problems: int) -> dict[str, dict[str, float]]:
    """The figures of each policy."""
    lines = (_CHECKOUT / "data/problems/test.jsonl").read_text().splitlines()
    questions = [json.loads(line)["question"] for line in lines[:num_problems]]
    found: dict[str, list[tuple[float, int, int]]] = {policy: [] for policy in _POLICIES}
    async with stack({**_SETTINGS, **vllm_on_one_core()}) as (pipeline, _), Client(pipeline.address) as client:
        for policy in _POLICIES:  # what is compiled or cached at first
            await _asked(client, questions[-1], policy)
        for question in questions:
            for policy in _POLICIES:
                found[policy].append(await _asked(client, question, policy))
    return {
        policy: {
            "median_s": round(statistics.median(each[0] for each in rows), 2),
            "longest_s": round(max(each[0] for each in rows), 2),
            "steps": round(statistics.mean(each[1] for each in rows), 1),
            "paths": round(statistics.mean(each[2] for each in rows), 1),
        }
        for policy, rows in found.items()
    }


@click.command()
@click.option("--problems", "num_problems", default=40, show_default=True)
def main(num_problems: int) -> None:
    """See the module's docstring."""
    figures = asyncio.run(measure(num_problems))
    for policy, row in figures.items():
        click.echo(f"{policy:<16} {row}")
    click.echo(record("ways_timed", {"problems": num_problems, "policies": figures}))


if __name__ == "__main__":
    main()
