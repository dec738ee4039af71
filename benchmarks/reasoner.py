"""`make bench-reasoner`: what each skill of the shipped model is worth on the 500 held-out problems, through vLLM on one core.

The targets are the issues'. With `--engine torch` it needs no vLLM, and the speed is that of whatever device there is, which no
target is set for. The engine's start is benchmarks/engine_start.py's.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import click

from benchmarks.measuring import record
from training.engines import ENGINES
from training.evaluation import evaluate
from training.generator import held_out
from training.non_problems import written

_MODEL = Path(__file__).resolve().parents[1] / "models" / "reasoner"
_NON_PROBLEMS = Path(__file__).resolve().parents[1] / "data" / "problems" / "non_problems.jsonl"
Figures = Mapping[str, object]


def _number(figures: Figures, name: str) -> float:
    value = figures[name]
    assert isinstance(value, int | float)
    return float(value)


def _more(name: str, than: str) -> Callable[[Figures], float]:
    return lambda figures: _number(figures, name) - _number(figures, than)


def _plain(name: str) -> Callable[[Figures], float]:
    return lambda figures: _number(figures, name)


# What is said of each figure, how it is had, and the range it must lie in.
_TARGETS: tuple[tuple[str, Callable[[Figures], float], float, float], ...] = (
    ("one path, T 0.8 (%)", _plain("one_path_pct"), 60, 80),
    ("vote of 16, points more", _more("vote_of_16_pct", "one_path_pct"), 12, 100),
    ("answer at once, points less", _more("one_path_pct", "direct_pct"), 20, 100),
    (
        "split on 5-8 steps, points over the whole at equal tokens",
        _more("split_on_5_to_8_steps_pct", "whole_at_equal_tokens_pct"),
        8,
        100,
    ),
    ("tool, points more than one path", _more("tool_pct", "one_path_pct"), 8, 100),
    ("critic finds a wrong path (%)", _plain("critic_finds_wrong_pct"), 75, 100),
    ("critic blames a right path (%)", _plain("critic_blames_right_pct"), 0, 15),
    ("one retry, points more than one path", _more("one_retry_pct", "before_retry_pct"), 5, 100),
    ("AUROC of mean token probability within a question", _plain("auroc_within_question"), 0.75, 1),
    ("of what is no word problem, declined (%)", _plain("declined_of_non_problems_pct"), 95, 100),
    ("of the problems, declined (%)", _plain("declined_of_problems_pct"), 0, 1),
)
_TARGET_OF_VLLM = ("paths/s on one core", _plain("paths_per_s"), 50.0, float("inf"))


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=_MODEL)
@click.option("--problems", default=500, show_default=True)
@click.option("--engine", type=click.Choice(list(ENGINES)), default="vllm", show_default=True)
def main(model: Path, problems: int, engine: str) -> None:
    """Measure the shipped model; the result is `reasoner`, or for another engine than vLLM `reasoner_ENGINE`."""
    figures = evaluate(ENGINES[engine](model), held_out(problems), written(_NON_PROBLEMS))
    for name, value in figures.items():
        print(f"{name:<34} {round(value, 2) if isinstance(value, float) else value}")
    print()
    for name, figure, least, most in (*_TARGETS, _TARGET_OF_VLLM) if engine == "vllm" else _TARGETS:
        value = figure(figures)
        print(f"{'ok ' if least <= value <= most else 'NO '} {name:<58} {value:8.2f}   [{least}, {most}]")
    print(record("reasoner" if engine == "vllm" else f"reasoner_{engine}", {"engine": engine, **figures}))


if __name__ == "__main__":
    main()
