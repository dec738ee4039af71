"""What log probabilities cost in tokens a second, on the shipped model and vLLM: none, the drawn token's, five or twenty more.

    python -m benchmarks.logprobs [--rounds 4] [--paths 400]

Taken in turns (A B C D A B C D …) on one engine, so that what else the machine does falls on all alike; medians of tokens/s, and
their ratios to none at all.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from benchmarks.measuring import in_turns, medians, record
from conclave import prompts
from conclave.engine.protocol import DecodeRequest
from training.batch_engine import VllmBatchEngine
from training.generator import held_out

_MODEL = Path(__file__).resolve().parents[1] / "models" / "reasoner"
_WAYS: dict[str, int | None] = {"none": None, "drawn": 0, "top 5": 5, "top 20": 20}


@click.command()
@click.option("--rounds", default=4, show_default=True)
@click.option("--paths", default=400, show_default=True)
def main(rounds: int, paths: int) -> None:
    """Measures, prints and records."""
    engine = VllmBatchEngine(_MODEL)
    form = prompts.load("reasoner-v3").form("chain_of_thought")
    requests = [
        DecodeRequest(str(number), form.render({"question": problem.question}).messages)
        for number, problem in enumerate(held_out(paths))
    ]

    def run(logprobs: int | None) -> Callable[[], Awaitable[float]]:
        async def tokens_per_s() -> float:
            started = time.perf_counter()
            decoded = engine.decode(requests, logprobs=logprobs)
            return sum(each.tokens_out or 0 for each in decoded) / (time.perf_counter() - started)

        return tokens_per_s

    engine.decode(requests)  # what is compiled or cached at first
    figures = asyncio.run(in_turns({name: run(each) for name, each in _WAYS.items()}, rounds=rounds))
    found = medians(figures)
    result = {
        "paths": paths,
        "rounds": rounds,
        "tokens_per_s": {name: round(value) for name, value in found.items()},
        "of_none": {name: round(value / found["none"], 3) for name, value in found.items()},
    }
    print(result["of_none"])
    print(record("logprobs", result))


if __name__ == "__main__":
    main()
