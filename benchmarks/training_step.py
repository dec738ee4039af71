"""`python -m benchmarks.training_step`: a step of the reasoner's training with our attention against transformers' own.

Both models take the same batches in turns, on one thread; figures are seconds a step.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path

import click
import torch

from benchmarks.measuring import in_turns, medians, record
from training import attention
from training.corpus import Batch, batches, train_tokenizer
from training.trainee import Recipe, Trainee

_KINDS = (attention.NAME, "eager", "sdpa")


def _steps(trainee: Trainee, chosen: list[Batch]) -> Callable[[], Awaitable[float]]:
    async def run() -> float:
        began = time.perf_counter()
        for batch in chosen:
            trainee.learn(batch, lr=1e-3)
        return (time.perf_counter() - began) / len(chosen)

    return run


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--steps", default=10, show_default=True, help="Batches a round.")
def main(rounds: int, steps: int) -> None:
    """Compare them; the result goes to benchmarks/results/training_step.json."""
    torch.set_num_threads(1)
    recipe = Recipe()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer(Path(folder))
    chosen = list(islice(batches(tokenizer, 1, tokens_per_batch=recipe.tokens_per_batch), steps))
    runs = {}
    for kind in _KINDS:
        torch.manual_seed(recipe.seed)
        trainee = Trainee.new(recipe, tokenizer)
        trainee.model.set_attn_implementation(kind)
        runs[kind] = _steps(trainee, chosen)
    seconds = medians(asyncio.run(in_turns(runs, rounds=rounds)))
    ratios = {f"{kind}_to_ours": seconds[kind] / seconds[attention.NAME] for kind in _KINDS[1:]}
    print(record("training_step", {"seconds_a_step": seconds, **ratios}))


if __name__ == "__main__":
    main()
