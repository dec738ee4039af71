"""`python -m benchmarks.effort`: what an estimate of need is worth: accuracy at equal samples, dealt out by each estimator.

    python -m benchmarks.effort --learn-from 500 --problems 500       # writes benchmarks/results/effort.json

Of every problem 16 paths are decoded once, on the bare model (as benchmarks/strategies.py does; counts do not depend on how busy
the machine is, and times are not taken). `learned` is fitted to problems of the training side and asked of held-out ones. For
each mean number of samples a question, `per_point` of each estimator is chosen so that it comes to that mean; `alike` gives all
the same. The row `adaptive_consistency` stops by what the paths say instead, and needs no estimate. Rounds instead of samples,
and dynamic against fixed 2 and 6 of them, are measured by

    python -m benchmarks.strategies --policy rounds --policy rounds-fixed-2 --policy rounds-fixed-6
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
from msgspec.structs import replace

from benchmarks.measuring import record
from conclave import policies, prompts
from conclave.domain import counting
from conclave.domain.complexity import ESTIMATORS, estimate
from conclave.domain.complexity.fitting import NotFitted, fitted
from conclave.domain.complexity.needs import Needs
from conclave.domain.complexity.outcomes import Outcome, examples
from schemas.values import Ask, Ballot, StopReason
from training.decoding import BatchDecoder
from training.engines import ENGINES
from training.generator import development, held_out
from training.problems import Problem
from training.reasoning import ballot_of

_CHECKOUT = Path(__file__).resolve().parents[1]
_PROMPT_SET, _POLICY, _MOST = "reasoner-v3", "fixed-16", 16
_MEANS = (2, 3, 4, 6, 8)  # samples a question


@dataclass(frozen=True, slots=True)
class Sampled:
    """A problem and the ballots of its paths, in launch order."""

    problem: Problem
    ballots: Sequence[Ballot]

    def is_right(self, num_samples: int, ask: Ask) -> bool:
        """Whether the majority of the first so many is the right answer."""
        counted = counting.count(self.ballots[:num_samples], ask, reason=StopReason.EXHAUSTED)
        return counted.result.answer == str(self.problem.answer)


def dealt(points: Sequence[float], mean: float) -> list[int]:
    """Samples in proportion to points, 1 to 16 each, with a mean as near to `mean` as a factor can bring it."""
    low, high = 0.0, 2.0 * _MOST
    for _ in range(50):
        middle = (low + high) / 2
        if sum(_figures(points, middle)) < mean * len(points):
            low = middle
        else:
            high = middle
    return _figures(points, high)


def _figures(points: Sequence[float], factor: float) -> list[int]:
    return [min(max(1, round(factor * each)), _MOST) for each in points]


def _sampled(decoder: BatchDecoder, ask: Ask, problems: Sequence[Problem]) -> list[Sampled]:
    found = decoder.decode(ask, [{"question": each.question} for each in problems], num_samples=_MOST)
    return [
        Sampled(problem, [ballot_of(path, place) for place, path in enumerate(paths)])
        for problem, paths in zip(problems, found, strict=True)
    ]


def learned(sampled: Sequence[Sampled], ask: Ask) -> Needs | None:
    """What votes on these problems teach; None, said so, where that is nothing."""
    outcomes = []
    for each in sampled:
        counted = counting.count(each.ballots, ask, reason=StopReason.EXHAUSTED)
        said = [ballot.answer for ballot in each.ballots]
        outcomes.append(
            Outcome(each.problem.question, said, counted.result.answer, right_answer=str(each.problem.answer))
        )
    try:
        return fitted(list(examples(outcomes, "samples")), fitted_at="", about=f"{len(sampled)} development problems")
    except NotFitted as error:
        click.echo(f"nothing is learned: {error}")
        return None


def row(sampled: Sequence[Sampled], figures: Sequence[int], ask: Ask) -> dict[str, float]:
    """Samples a question, and accuracy in percent."""
    right = sum(each.is_right(figure, ask) for each, figure in zip(sampled, figures, strict=True))
    return {"samples": round(sum(figures) / len(figures), 2), "right_pct": round(100 * right / len(sampled), 2)}


def _until_sure(each: Sampled, ask: Ask) -> int:
    found = counting.stop(each.ballots, replace(ask, stopping="adaptive_consistency"))
    return _MOST if found is None else found.length


@click.command()
@click.option("--problems", "number", default=500, show_default=True, help="Held-out problems, from the first on.")
@click.option("--learn-from", default=500, show_default=True, help="Problems of the training side.")
@click.option("--engine", type=click.Choice(list(ENGINES)), default="vllm", show_default=True)
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=_CHECKOUT / "models" / "reasoner")
@click.option("--no-record", is_flag=True, help="Print only.")
def main(number: int, learn_from: int, engine: str, model: Path, no_record: bool) -> None:
    """Measures, prints and writes."""
    found = policies.shipped().find(_POLICY)
    assert found is not None
    ask = found.asks["whole"]
    decoder = BatchDecoder(ENGINES[engine](model), prompts.load(_PROMPT_SET))
    needs = learned(_sampled(decoder, ask, development(learn_from)), ask)
    sampled = _sampled(decoder, ask, held_out(number))
    estimators = [name for name in ESTIMATORS if name != "learned" or needs is not None]
    rows = {
        mean: {"alike": row(sampled, [mean] * len(sampled), ask)}
        | {
            name: row(sampled, dealt([estimate(name, each.problem.question, needs)[0] for each in sampled], mean), ask)
            for name in estimators
        }
        for mean in _MEANS
    }
    sure = row(sampled, [_until_sure(each, ask) for each in sampled], ask)
    for mean, by in rows.items():
        click.echo(f"{mean} samples  " + "  ".join(f"{name} {each['right_pct']:.1f} %" for name, each in by.items()))
    click.echo(f"adaptive_consistency {sure['samples']} samples, {sure['right_pct']:.1f} %")
    if not no_record:
        fit = None if needs is None else needs.fit
        told = None if fit is None else msgspec.to_builtins(fit)
        result = {"num_problems": number, "learned_from": learn_from, "engine": engine, "fit": told}
        click.echo(str(record("effort", {**result, "by_mean_samples": rows, "adaptive_consistency": sure})))


if __name__ == "__main__":
    main()
