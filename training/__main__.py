"""`python -m training`: train the reasoner, evaluate it, or write its fixed problem sets."""

import json
from pathlib import Path

import click

from training.engines import ENGINES
from training.generator import development, held_out

_CHECKOUT = Path(__file__).resolve().parents[1]
_SHIPPED = _CHECKOUT / "models" / "reasoner"
_PROBLEMS = _CHECKOUT / "data" / "problems"


@click.group()
def main() -> None:
    """The small reasoner that ships."""


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), default=_SHIPPED, show_default=True)
@click.option("--minutes", default=90.0, show_default=True, help="Training time in all, resumed runs counted together.")
@click.option("--seed", default=1, show_default=True)
def train(folder: Path, minutes: float, seed: int) -> None:
    """Train from nothing (or go on from the last checkpoint) and leave weights and tokenizer in FOLDER."""
    from training.trainee import Recipe
    from training.trainer import train as run

    run(folder, Recipe(seed=seed, minutes=minutes))


@main.command()
@click.option("--from", "start", type=click.Path(exists=True, path_type=Path), default=_SHIPPED, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Where the result goes.")
@click.option("--minutes", default=15.0, show_default=True)
@click.option("--tokens", default=2048, show_default=True, help="Of a batch.")
@click.option("--lr", default=1e-3, show_default=True, help="After the warm-up; it ends at a tenth of it.")
@click.option("--seed", default=1, show_default=True)
def refine(start: Path, folder: Path, minutes: float, tokens: int, lr: float, seed: int) -> None:
    """Go on from a trained model, which learns better to decline what is no word problem and forgets little."""
    from training.trainee import Recipe
    from training.trainer import refine as run

    run(
        start,
        folder,
        Recipe(seed=seed, minutes=minutes, tokens_per_batch=tokens, peak_lr=lr, end_lr=lr / 10, warmup_steps=30),
    )


@main.command("eval")
@click.option("--folder", type=click.Path(path_type=Path), default=_SHIPPED, show_default=True)
@click.option("--problems", "num_problems", default=200, show_default=True)
@click.option("--held-out", "is_held_out", is_flag=True, help="The test split: to report, never to decide by.")
@click.option("--engine", type=click.Choice(list(ENGINES)), default="vllm", show_default=True)
def evaluate(folder: Path, num_problems: int, is_held_out: bool, engine: str) -> None:
    """What each skill is worth, on development problems or the held-out ones."""
    from training.evaluation import evaluate as run
    from training.non_problems import written

    chosen = held_out(num_problems) if is_held_out else development(num_problems)
    others = written(_PROBLEMS / ("non_problems.jsonl" if is_held_out else "non_problems_development.jsonl"))
    click.echo(json.dumps(run(ENGINES[engine](folder), chosen, others), indent=2))


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), default=_SHIPPED, show_default=True)
@click.option("--form", default="chain_of_thought", show_default=True)
def declining(folder: Path, form: str) -> None:
    """How sure the model is to decline the texts of non_problems.jsonl, and the 500 held-out problems, in minutes without vLLM."""
    from training.declined import declining_probabilities
    from training.non_problems import written

    texts = {"non_problems": written(_PROBLEMS / "non_problems.jsonl"), "problems": [p.question for p in held_out(500)]}
    for name, some in texts.items():
        found = declining_probabilities(folder, some, form)
        more = sum(each > 0.5 for each in found)
        click.echo(
            f"{name}: mean {sum(found) / len(found):.4f}, min {min(found):.4f}, max {max(found):.4f}, {more} above half"
        )


@main.command()
@click.option("--folder", type=click.Path(path_type=Path), default=_PROBLEMS, show_default=True)
def problems(folder: Path) -> None:
    """Write the fixed held-out sets: 500 problems for tests of the model, and 100 others for the demo."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = held_out(600)
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
