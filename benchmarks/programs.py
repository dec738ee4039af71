"""`python -m benchmarks.programs`: one path a question by each path program, on held-out problems, through the whole pipeline.

The same questions go to Kafka under the policies single, tool, criticised and sure, a path each; what is right is counted from
the paths in the log. benchmarks/results/reasoner.json has the same skills measured on the bare model, on all 500.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from benchmarks.measuring import record
from benchmarks.stack import stack, vllm_on_one_core
from conclave.runtime.client import Client
from conclave.testing.pipeline import read_log
from schemas.events import AnswerReached, PathDecoded, PathFailed, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

_CHECKOUT = Path(__file__).resolve().parents[1]
_POLICIES = ("single", "tool", "criticised", "sure")
_LIMIT_S = 900.0


async def measure(num_problems: int) -> dict[str, object]:
    """What each program's paths are worth, in percent where the name says so."""
    lines = (_CHECKOUT / "data/problems/test.jsonl").read_text().splitlines()[:num_problems]
    problems = [json.loads(line) for line in lines]
    settings = {
        "CONCLAVE_ENGINE": "vllm",
        "CONCLAVE_MODEL": str(_CHECKOUT / "models" / "reasoner"),
        **vllm_on_one_core(),
    }
    figures: dict[str, object] = {}
    async with stack(settings) as (pipeline, _):
        for policy in _POLICIES:
            requests = [
                ReasoningRequested(question=each["question"], request_id=new_request_id(), policy=policy, max_samples=1)
                for each in problems
            ]
            started = time.perf_counter()
            await _answered(pipeline.address, requests)
            seconds = time.perf_counter() - started
            right = {str(one.request_id): each["answer"] for one, each in zip(requests, problems, strict=True)}
            ends = [event for _, event, _ in await read_log(pipeline.address, [Topic.PATHS])]
            mine = [
                event
                for event in ends
                if isinstance(event, PathDecoded | PathFailed) and event.context.request_id in right
            ]
            figures[policy] = {"questions_per_s": round(len(problems) / seconds, 2), **_figures(mine, right)}
            print(policy, figures[policy], flush=True)
    return {"num_problems": len(problems), "limits": "one path a question, temperature 0.8", **figures}


async def _answered(address: str, requests: Sequence[ReasoningRequested]) -> None:
    """Returns when every request has ended."""
    wanted = {request.request_id for request in requests}
    async with Client(address) as client, client.follow(Topic.ANSWERS) as events:
        await client.publish_many(requests)
        async with asyncio.timeout(_LIMIT_S):
            async for _, event in events:
                if isinstance(event, AnswerReached | RequestFailed):
                    wanted.discard(event.request_id)
                if not wanted:
                    break


def _figures(ends: Sequence[PathDecoded | PathFailed], right: Mapping[str, str]) -> dict[str, object]:
    paths = [end for end in ends if isinstance(end, PathDecoded)]
    first = [path.turns[0].answer if path.turns else path.answer for path in paths]
    figures: dict[str, object] = {
        "paths": len(paths),
        "failed": len(ends) - len(paths),
        "right_pct": _share([_is_right(path, path.answer, right) for path in paths]),
        "right_at_first_pct": _share([_is_right(*each, right) for each in zip(paths, first, strict=True)]),
        "turns": _mean([1 + sum(turn.tool is None for turn in path.turns) for path in paths]),
        "tool_calls": _mean([sum(turn.tool is not None for turn in path.turns) for path in paths]),
        "tokens_out": _mean([path.tokens_out or 0 for path in paths]),
    }
    for name, is_right in (("sure_when_right", True), ("sure_when_wrong", False)):
        stated = [
            path.probability
            for path in paths
            if path.probability is not None and _is_right(path, path.answer, right) is is_right
        ]
        if stated:
            figures[name] = _mean(stated)
    return figures


def _is_right(path: PathDecoded, answer: str | None, right: Mapping[str, str]) -> bool:
    return answer == right[path.context.request_id]


def _share(flags: Sequence[bool]) -> float:
    return round(100 * sum(flags) / max(1, len(flags)), 1)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / max(1, len(values)), 3)


@click.command()
@click.option("--problems", default=100, show_default=True)
def main(problems: int) -> None:
    """Measure the path programs; the result goes to benchmarks/results/programs.json."""
    print(record("programs", asyncio.run(measure(problems))))


if __name__ == "__main__":
    main()
