"""`python -m benchmarks.router`: what a router is worth on the shipped model: accuracy and tokens, routed against always thinking.

    python -m benchmarks.router                           # measures; writes benchmarks/results/router.json
    python -m benchmarks.router --train hard.json         # a classifier for a router of your own

On the bare model (no pipeline), as benchmarks/strategies.py: accuracy and counts do not depend on how busy the
machine is; times do, and are not taken. What is hard is learned from problems of the training side, whose first path (`single`)
is known to be right or wrong; what is measured are held-out ones, of one to eight steps: every question by `criticised`
(always think), by each of the policies that the router that ships gives out, and by that router, whose limits were chosen on
development problems.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from benchmarks.measuring import record
from conclave import policies, prompts, routes
from conclave.domain.routing import Pressure, Streaks, route
from conclave.domain.routing.difficulty import Classifier
from conclave.domain.routing.examples import Example
from conclave.domain.routing.learning import learned
from schemas.values import Policy
from training.decoding import BatchDecoder
from training.engines import ENGINES
from training.generator import development, held_out
from training.problems import Problem
from training.reasoning import Answered, answered

_CHECKOUT = Path(__file__).resolve().parents[1]
_PROMPT_SET, _ALWAYS, _FIRST, _ROUTER = "reasoner-v3", "criticised", "single", "effort"
_DEFAULT = "default"  # what a question gets that no rule holds of

Row = dict[str, float]


def _policy(name: str) -> Policy:
    found = policies.shipped().find(name)
    assert found is not None, name
    return found


def trained(decoder: BatchDecoder, number: int) -> Classifier:
    """What is hard for the model, from so many problems of the training side."""
    problems = development(number)
    found = answered(decoder, _policy(_FIRST), [each.question for each in problems])
    given = [
        Example(problem.question, float(not _is_right(each, problem)), source=f"first path of {_FIRST}")
        for each, problem in zip(found, problems, strict=True)
    ]
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return learned(given, trained_at=now, about=f"models/reasoner, {_PROMPT_SET}, {number} development problems")


def routed(questions: Sequence[str]) -> list[str]:
    """The policy that the shipped router gives each question."""
    found, problems = routes.load(policies=policies.shipped())
    assert not problems, problems
    read = found.rows[_ROUTER]
    told = {"tenant": "", "at": "", "classifier": read.classifier, "pressure": Pressure(), "streaks": Streaks()}
    choices = [route(read.router, question, {}, **told) for question in questions]  # type: ignore[arg-type]  # by name
    return [choice.policy or _DEFAULT for choice in choices]


def row(found: Sequence[Answered], problems: Sequence[Problem]) -> Row:
    """Accuracy in percent, and tokens written and paths a question."""
    number = len(problems)
    right = sum(_is_right(each, problem) for each, problem in zip(found, problems, strict=True))
    return {
        "right_pct": round(100 * right / number, 2),
        "tokens_out": round(sum(each.num_tokens for each in found) / number, 1),
        "paths": round(sum(each.num_paths for each in found) / number, 2),
    }


def _is_right(found: Answered, problem: Problem) -> bool:
    return found.answer == str(problem.answer)


@click.command()
@click.option("--problems", "number", default=500, show_default=True, help="Held-out problems, from the first on.")
@click.option(
    "--train", type=click.Path(path_type=Path), help="Train the classifier anew, into this file, and measure nothing."
)
@click.option("--examples", default=600, show_default=True, help="Problems of the training side to train from.")
@click.option("--engine", type=click.Choice(list(ENGINES)), default="vllm", show_default=True)
@click.option("--no-record", is_flag=True, help="Print only.")
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=_CHECKOUT / "models" / "reasoner")
def main(number: int, train: Path | None, examples: int, engine: str, no_record: bool, model: Path) -> None:
    """Measures, prints and writes; or trains."""
    decoder = BatchDecoder(ENGINES[engine](model), prompts.load(_PROMPT_SET))
    if train is not None:
        classifier = trained(decoder, examples)
        train.write_bytes(msgspec.json.format(msgspec.json.encode(classifier), indent=2) + b"\n")
        click.echo(str(classifier.figures))
        return
    problems = held_out(number)
    questions = [each.question for each in problems]
    given = routed(questions)
    by = {name: answered(decoder, _policy(name), questions) for name in sorted({_ALWAYS, *given})}
    rows = {name: row(found, problems) for name, found in by.items()}
    rows["routed"] = row([by[name][place] for place, name in enumerate(given)], problems)
    always = rows[_ALWAYS]
    for name, each in rows.items():
        click.echo(
            f"{name:<13} right {each['right_pct']:.1f} % ({each['right_pct'] / always['right_pct']:.1%} of always), "
            f"{each['tokens_out']:.0f} tokens ({each['tokens_out'] / always['tokens_out']:.1%}), {each['paths']:.1f} paths"
        )
    shares = {name: given.count(name) / len(given) for name in sorted(set(given))}
    if not no_record:
        record(
            "router", {"num_problems": number, "engine": engine, "always": _ALWAYS, "ways": rows, "routed_to": shares}
        )


if __name__ == "__main__":
    main()
