"""`python -m benchmarks.going_back`: what going back is worth to a search, by votes and by a critic's word, on held-out problems.

Each policy of the shipped model is set against itself without going back: `tree` with a floor that no line falls below,
`tree-checked` with one branch and its check. Told are right answers, tokens and how many fewer are wrong, with an interval by a
paired bootstrap over problems; written to benchmarks/results/going_back.json after each pair.
"""

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from msgspec.structs import replace

from benchmarks.measuring import record
from conclave import policies, prompts
from conclave.domain.comparison import NUM_DRAWS
from schemas.values import Policy
from training.decoding import BatchDecoder
from training.engines import ENGINES
from training.generator import held_out
from training.problems import Problem
from training.reasoning import Answered, answered

_CHECKOUT = Path(__file__).resolve().parents[1]
_NEVER = {"tree-checked": {"finishes": 1.0}, "tree": {"floor": 0.01, "finishes": 1.0}}


@click.command()
@click.option("--problems", default=500, show_default=True, help="Held-out problems, from the first on.")
@click.option("--policy", "names", multiple=True, type=click.Choice(list(_NEVER)), help="[default: both]")
@click.option("--engine", type=click.Choice(list(ENGINES)), default="vllm", show_default=True)
def main(problems: int, names: tuple[str, ...], engine: str) -> None:
    """See the module's docstring."""
    asked = held_out(problems)
    decoder = BatchDecoder(ENGINES[engine](_CHECKOUT / "models" / "reasoner"), prompts.load("reasoner-v3"))
    shipped = {each.policy.name: each.policy for each in policies.shipped()}
    rows: dict[str, object] = {}
    for name in names or _NEVER:
        policy = shipped[name]
        never = replace(policy, params={**policy.params, **_NEVER[name]})
        rows[name] = compared(_answered(decoder, policy, asked), _answered(decoder, never, asked), asked)
        click.echo(f"{name} {rows[name]}")
        click.echo(record("going_back", {"problems": len(asked), "engine": engine, "policies": rows}))


def _answered(decoder: BatchDecoder, policy: Policy, asked: Sequence[Problem]) -> list[Answered]:
    return answered(decoder, policy, [each.question for each in asked])


def compared(back: Sequence[Answered], never: Sequence[Answered], asked: Sequence[Problem]) -> dict[str, object]:
    """Both ways' figures, and by how many percent fewer are wrong with going back."""
    wrong = np.array(
        [
            [each.answer != str(problem.answer) for each, problem in zip(way, asked, strict=True)]
            for way in (back, never)
        ]
    )
    drawn = np.random.default_rng(0).integers(0, len(asked), size=(NUM_DRAWS, len(asked)))
    with_back, without = (row[drawn].sum(axis=1) for row in wrong)
    fewer = 100 * (1 - with_back / np.maximum(1, without))
    return {
        **{
            name: {
                "right_pct": round(100 * float(1 - row.mean()), 1),
                "paths": round(sum(each.num_paths for each in way) / len(way), 1),
                "tokens": round(sum(each.num_tokens for each in way) / len(way), 1),
            }
            for name, way, row in (("going back", back, wrong[0]), ("never", never, wrong[1]))
        },
        "fewer_wrong_pct": round(100 * (1 - int(wrong[0].sum()) / max(1, int(wrong[1].sum()))), 1),
        "fewer_wrong_interval": [round(float(each), 1) for each in np.percentile(fewer, (2.5, 97.5))],
    }


if __name__ == "__main__":
    main()
