"""`python -m conclave.reasoner`: train the reasoner, or write its fixed problem sets."""

import json
from itertools import islice
from pathlib import Path

import click

from conclave.reasoner.problems import Split, generate

_CHECKOUT = Path(__file__).resolve().parents[2]


@click.group()
def main() -> None:
    """The small reasoner that ships."""


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), default=_CHECKOUT / "models" / "reasoner", show_default=True)
@click.option(
    "--minutes", default=110.0, show_default=True, help="Training time in all, resumed runs counted together."
)
@click.option("--seed", default=1, show_default=True)
def train(folder: Path, minutes: float, seed: int) -> None:
    """Train from nothing (or go on from the last checkpoint) and leave weights and tokenizer in FOLDER."""
    from conclave.reasoner.training import Recipe
    from conclave.reasoner.training import train as run

    run(folder, Recipe(seed=seed, minutes=minutes))


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), default=_CHECKOUT / "data" / "problems", show_default=True)
def problems(folder: Path) -> None:
    """Write the fixed held-out sets: 500 problems for tests of the model, and 100 others for the demo."""
    folder.mkdir(parents=True, exist_ok=True)
    held_out = {problem.question: problem for problem in islice(generate(7, Split.TEST), 5000)}
    chosen = list(held_out.values())[:600]
    for name, part in (("test", chosen[:500]), ("demo", chosen[500:])):
        rows = [
            {
                "id": f"{name}-{i:03}",
                "question": each.question,
                "difficulty": each.num_steps,
                "family": each.family,
                "answer": str(each.answer),
            }
            for i, each in enumerate(part)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
