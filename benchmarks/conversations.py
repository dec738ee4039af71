"""`python -m benchmarks.conversations`: how much of the prompts of later turns two decoders find in their KV caches, live.

Services, two decoders on vLLM, the shipped model. Conversations of several turns go on side by side, each turn one path whose
prompt begins with all earlier turns: once with the tag that keeps a conversation at one decoder, once without, in turns (A B A B).
Told is the share of prompt tokens that were cached, as the decoders count them. Conversations are new each time: nothing is warm.
"""

import asyncio
import json
import statistics
import uuid
from collections import Counter
from pathlib import Path

import click

from benchmarks.measuring import in_turns, record
from benchmarks.stack import counted, stack, vllm_on_one_core
from conclave.runtime.client import Client
from conclave.testing.pipeline import Pipeline
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

_CHECKOUT = Path(__file__).resolve().parents[1]
_SETTINGS = {"CONCLAVE_ENGINE": "vllm", "CONCLAVE_MODEL": str(_CHECKOUT / "models" / "reasoner")}
_TAG = "conversation"


async def _share(pipeline: Pipeline, client: Client, problems: list[str], num_turns: int, *, is_tagged: bool) -> float:
    """Percent of the prompt tokens of these conversations that were cached."""
    before = await asyncio.to_thread(_prompt_tokens, pipeline)
    talks = [uuid.uuid4().hex for _ in problems]
    said = {talk: f"Conversation {talk[:8]}.\n\n" for talk in talks}
    for turn in range(num_turns):
        asked: dict[str, str] = {}
        for at, talk in enumerate(talks):
            said[talk] += f"User: {problems[(at + turn) % len(problems)]}\n\n"
            asked[str(new_request_id())] = talk
        for request_id, answer in (await _answers(client, asked, said, is_tagged=is_tagged)).items():
            said[asked[request_id]] += f"Assistant: {answer}\n\n"
    read = await asyncio.to_thread(_prompt_tokens, pipeline)
    read.subtract(before)
    return 100 * read["yes"] / max(1, read["yes"] + read["no"])


async def _answers(
    client: Client, asked: dict[str, str], said: dict[str, str], *, is_tagged: bool
) -> dict[str, str | None]:
    answers: dict[str, str | None] = {}
    requests = [
        ReasoningRequested(
            request_id=request_id,
            question=said[talk].strip(),
            policy="single",
            tags={_TAG: talk} if is_tagged else {},
        )
        for request_id, talk in asked.items()
    ]
    async with client.follow(Topic.ANSWERS) as events, asyncio.timeout(600):
        await client.publish_many(requests)
        async for _, event in events:
            if isinstance(event, AnswerReached | RequestFailed) and event.request_id in asked:
                answers[event.request_id] = event.answer if isinstance(event, AnswerReached) else None
            if len(answers) == len(asked):
                return answers
    raise AssertionError("answers ended before all had come")


def _prompt_tokens(pipeline: Pipeline) -> Counter[str]:
    """Of all decoders, by whether they were cached."""
    found: Counter[str] = Counter()
    for _, labels, value in counted(pipeline, "conclave_prompt_tokens_total"):
        found[labels["cached"]] += round(value)
    return found


async def measure(num_conversations: int, num_turns: int, rounds: int) -> dict[str, list[float]]:
    """The shares of each round."""
    lines = (_CHECKOUT / "data/problems/test.jsonl").read_text().splitlines()[:num_conversations]
    problems = [json.loads(line)["question"] for line in lines]
    settings = {**_SETTINGS, **vllm_on_one_core()}
    async with stack(settings) as (pipeline, _), Client(pipeline.address) as client:
        await pipeline.add("decoder", "decoder-2")
        await pipeline.until_ready(limit_s=300)
        return await in_turns(
            {
                "a decoder for each conversation": lambda: _share(
                    pipeline, client, problems, num_turns, is_tagged=True
                ),
                "any decoder": lambda: _share(pipeline, client, problems, num_turns, is_tagged=False),
            },
            rounds=rounds,
        )


@click.command()
@click.option("--conversations", default=12, show_default=True)
@click.option("--turns", default=4, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(conversations: int, turns: int, rounds: int) -> None:
    """See the module's docstring."""
    shares = asyncio.run(measure(conversations, turns, rounds))
    cached = {name: round(statistics.median(each), 1) for name, each in shares.items()}
    for name, share in cached.items():
        click.echo(f"{name:<34} {share:5.1f} % of prompt tokens cached")
    told = {"conversations": conversations, "turns": turns, "cached_percent": cached, "all": shares}
    click.echo(record("conversations", told))


if __name__ == "__main__":
    main()
