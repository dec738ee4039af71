"""What vLLM's front spends on a token that it reads as it comes, and on one that is read at its path's end.

    python -m benchmarks.reading [--rounds 4] [--questions 48]

Taken in turns (A B A B …) on one engine, with the shipped model at eight samples: CPU of this process for each token, in µs,
while the engine core decodes in a process of its own. Medians and their ratio.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from benchmarks.measuring import in_turns, medians, record
from benchmarks.stack import vllm_on_one_core
from conclave import prompts
from conclave.engine.protocol import DecodeRequest
from training.generator import held_out

_MODEL = Path(__file__).resolve().parents[1] / "models" / "reasoner"
_SAMPLES = 8


async def reading(rounds: int, num_questions: int) -> dict[str, object]:
    """Microseconds of CPU for each token, either way; and what the one is of the other."""
    from conclave.engine.vllm.engine import VllmEngine
    from conclave.engine.vllm.words import Words

    engine = VllmEngine(str(_MODEL), max_running=128)
    await engine.start()
    able = engine._words  # nothing but this says whether paths are read at their end
    form = prompts.load("reasoner-v3").form("chain_of_thought")
    requests = [
        DecodeRequest(f"{number}-{sample}", form.render({"question": problem.question}).messages)
        for number, problem in enumerate(held_out(num_questions))
        for sample in range(_SAMPLES)
    ]

    def run(words: Words | None) -> Callable[[], Awaitable[float]]:
        async def us_a_token() -> float:
            engine._words = words
            before_s = time.process_time()
            decoded = await asyncio.gather(*(engine.decode(each) for each in requests))
            return (time.process_time() - before_s) * 1e6 / sum(each.tokens_out or 0 for each in decoded)

        return us_a_token

    try:
        await asyncio.gather(*(engine.decode(each) for each in requests[:64]))  # what is compiled or cached at first
        figures = await in_turns({"as it comes": run(Words(None)), "at its end": run(able)}, rounds=rounds)
    finally:
        await engine.stop()
    as_it_comes, at_its_end = medians(figures).values()
    return {
        "paths": len(requests),
        "cpu_us_a_token": medians(figures),
        "at_its_end_of_as_it_comes": at_its_end / as_it_comes,
        "all": figures,
    }


@click.command()
@click.option("--rounds", default=4, show_default=True)
@click.option("--questions", default=48, show_default=True)
def main(rounds: int, questions: int) -> None:
    """Measures, prints and records."""
    os.environ.update(vllm_on_one_core(), VLLM_LOGGING_LEVEL="ERROR")
    result = asyncio.run(reading(rounds, questions))
    print(result["at_its_end_of_as_it_comes"])
    print(record("reading", result))


if __name__ == "__main__":
    main()
