"""What a path's own figures save: sampling ended by counts, and by log odds of fitted evidence, on the shipped model's own samples.

    python -m benchmarks.evidence [--orders 10] [--fit mine.jsonl.gz --judge other.jsonl.gz]

Everything is fitted and chosen on the development set: the coefficients of weighing `log_linear`, the rule that does best by
counts alone, and the bar of policy `confident`. The held-out set is only reported on. Every way of voting sees the same random
orders of each question's samples. It needs no model and writes benchmarks/results/evidence.json; for files of your own it prints
the parameters that a policy takes, and writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from benchmarks.measuring import record
from conclave.cli import recordings
from conclave.domain import counting
from conclave.domain.comparison import NUM_DRAWS
from conclave.domain.equivalence import EQUIVALENCES
from conclave.domain.replay import Recording
from conclave.domain.vote_learning.path_evidence import fitted
from conclave.domain.weighing import weight
from schemas.values import Ask, Ballot, StopReason

_OWN = Path(__file__).resolve().parents[1] / "tests/data/replay_own"
_DECIMALS = 3
_MOST = 40
_FEW = 16  # the samples that policies ask for at most unless they say otherwise
_BARS = (0.6, 0.7, 0.8, 0.9, 0.95)
_CHOSEN_BAR = 0.9  # of policy `confident`: on the development set, more samples bring little beyond it
_EQUAL = 0.001  # accuracies as close as that are equal
_BASE = "adaptive_consistency 0.95"

Floats = NDArray[np.float64]

_BY_COUNTS = {
    **{
        f"adaptive_consistency {bar}": Ask(form="any", params={"stop_confidence": bar})
        for bar in (0.99, 0.95, 0.93, 0.9, 0.85)
    },
    **{f"ahead_by_k {k}": Ask(form="any", stopping="ahead_by_k", params={"lead": k}) for k in (3.0, 4.0, 5.0, 6.0)},
    **{
        f"bayes_factor {factor:.0f}": Ask(form="any", stopping="bayes_factor", params={"factor": factor})
        for factor in (13.0, 30.0, 100.0)
    },
    "early_stopping 5": Ask(form="any", stopping="early_stopping"),
    "doubling 0.75": Ask(form="any", stopping="doubling"),
    "mixture_sprt 0.2": Ask(form="any", stopping="mixture_sprt"),
}


@dataclass(frozen=True, slots=True)
class _Came:
    """What a way of voting came to: means over orders, a figure for each question."""

    samples: Floats
    right: Floats
    tokens: Floats


@click.command()
@click.option("--orders", default=10, show_default=True, type=click.IntRange(1, 200))
@click.option("--fit", "fit_path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--judge", "judge_path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(orders: int, fit_path: Path | None, judge_path: Path | None) -> None:
    """Fit on one set, and report on both."""
    if (fit_path is None) != (judge_path is None):
        raise click.UsageError("give --fit and --judge together")
    fit_on = fit_path or _OWN / "reasoner_development.jsonl.gz"
    paths = {"development": fit_on, "held-out": judge_path or _OWN / "reasoner_held-out.jsonl.gz"}
    sets = {name: [_labelled(each) for each in recordings.read(path)] for name, path in paths.items()}
    found = fitted(sets["development"], "verbatim")
    params = {name: round(value, _DECIMALS) for name, value in found.params.items()}
    print(f"fitted on {found.num_questions} questions: {params}")
    print(f"log loss of it {found.log_loss:.4f} nats, of counts {found.log_loss_of_counts:.4f}", flush=True)
    ways = {_BASE: _BY_COUNTS[_BASE]} | _best_by_counts(sets["development"], orders) | _by_evidence(params)
    result = {
        "orders": orders,
        "fitted": {"params": params, "log_loss": found.log_loss, "log_loss_of_counts": found.log_loss_of_counts},
        "chosen_bar": _CHOSEN_BAR,
        "sets": {name: _reported(name, questions, ways, orders) for name, questions in sets.items()},
    }
    if fit_path is None:
        print(record("evidence", result))


def _labelled(recording: Recording) -> Recording:
    """The recording with the answers' clusters for answers, so that they are found once and not in every order."""
    *labels, gold = EQUIVALENCES["short_answer"](
        [*(each.answer or "" for each in recording.ballots), recording.gold or ""]
    )
    ballots = (replace(each, answer=label or None) for each, label in zip(recording.ballots, labels, strict=True))
    return Recording(recording.id, gold, tuple(ballots))


def _best_by_counts(development: Sequence[Recording], orders: int) -> dict[str, Ask]:
    """Of the rules that count votes the one with the fewest samples whose accuracy is not below Adaptive-Consistency's."""
    came = {name: _came(development, ask, min(orders, 4), _MOST) for name, ask in _BY_COUNTS.items()}
    least = came[_BASE].right.mean() - _EQUAL
    best = min(
        (each for each in came if came[each].right.mean() >= least), key=lambda each: float(came[each].samples.mean())
    )
    return {best: _BY_COUNTS[best]}


def _by_evidence(params: Mapping[str, float]) -> dict[str, Ask]:
    ask = Ask(form="any", stopping="log_odds", weighing="log_linear")
    return {f"log_odds {bar}": replace(ask, params={**params, "stop_confidence": bar}) for bar in _BARS}


def _came(questions: Sequence[Recording], ask: Ask, num_orders: int, max_samples: int) -> _Came:
    ask = replace(ask, max_samples=max_samples, equivalence="verbatim")
    figures = np.array([[_voted(each, ask, order) for order in range(num_orders)] for each in questions])
    return _Came(*figures.mean(axis=1).T)


def _voted(question: Recording, ask: Ask, order: int) -> tuple[float, float, float]:
    """Samples, whether the answer is right, and tokens, by the code that decides live votes with schedule `waves`."""
    ballots = _in_order(question, order)[: ask.max_samples]
    stop = counting.stop(ballots, ask)
    counted = ballots[: stop.length] if stop else ballots
    reason = stop.reason if stop else StopReason.EXHAUSTED
    answer = counting.count(counted, ask, reason=reason).result.answer
    return len(counted), float(answer == question.gold), sum(each.tokens_out for each in counted)


def _in_order(question: Recording, order: int) -> Sequence[Ballot]:
    name = [order, *question.id.encode()]
    shuffled = np.random.default_rng(name).permutation(len(question.ballots))
    return [replace(question.ballots[at], sample_index=place) for place, at in enumerate(shuffled)]


def _reported(
    name: str, questions: Sequence[Recording], ways: Mapping[str, Ask], orders: int
) -> dict[str, dict[str, object]]:
    """The figures of each way on a set, against Adaptive-Consistency 0.95 with as many samples at most."""
    rows: dict[str, dict[str, object]] = {}
    print(f"\n{name}: {len(questions)} questions, {orders} random orders; against {_BASE}, 95 % intervals")
    for most in (_MOST, _FEW):
        base = _came(questions, ways[_BASE], orders, most)
        for way, ask in ways.items():
            came = base if way == _BASE else _came(questions, ask, orders, most)
            row = _row(came, base)
            rows[f"{way}, at most {most}"] = row
            print(_line(f"{way}, at most {most}", row), flush=True)
    for way, ask in ((each, ways[each]) for each in (_BASE, f"log_odds {_CHOSEN_BAR}")):
        settled = float(np.mean([_settled(each, ask, order) for each in questions for order in range(orders)]))
        rows[f"{way}: fewest after which the leader of {_MOST} stays"] = {"samples": round(settled, 3)}
        print(f"{'fewest after which the leader by its weights stays: ' + way:<66}{settled:6.2f} samples")
    return rows


def _settled(question: Recording, ask: Ask, order: int) -> int:
    """The fewest samples after which the leader, by the ask's weights, is for good the one of all samples: an oracle's stop."""
    totals: dict[str, float] = {}  # in launch order, so that of equals the first is found
    leaders: list[str | None] = []
    for ballot in _in_order(question, order):
        if ballot.answer:
            totals[ballot.answer] = totals.get(ballot.answer, 0.0) + weight(ballot, ask)
        leaders.append(max(totals, key=totals.__getitem__, default=None))
    return max((at + 1 for at, each in enumerate(leaders, 1) if each != leaders[-1]), default=1)


def _row(came: _Came, base: _Came) -> dict[str, object]:
    """Means, and the differences with their intervals by a paired bootstrap over questions."""
    drawn = np.random.default_rng(0).integers(0, len(base.right), size=(NUM_DRAWS, len(base.right)))
    fewer = 1 - came.samples[drawn].sum(axis=1) / base.samples[drawn].sum(axis=1)
    change = 100 * (came.right - base.right)
    return {
        "samples": round(float(came.samples.mean()), 3),
        "tokens": round(float(came.tokens.mean()), 1),
        "accuracy_percent": round(100 * float(came.right.mean()), 2),
        "change_points": round(float(change.mean()), 2),
        "change_interval": _ends(change[drawn].mean(axis=1)),
        "fewer_samples_percent": round(100 * (1 - float(came.samples.sum() / base.samples.sum())), 1),
        "fewer_samples_interval": _ends(100 * fewer),
    }


def _ends(drawn: Floats) -> list[float]:
    return [round(float(each), 2) for each in np.quantile(drawn, [0.025, 0.975])]


def _line(name: str, row: Mapping[str, object]) -> str:
    return (
        f"{name:<42}{row['samples']:6.2f} samples {row['tokens']:7.0f} tokens {row['accuracy_percent']:6.2f} % right "
        f"({row['change_points']:+.2f} {row['change_interval']}), {row['fewer_samples_percent']:5.1f} % fewer "
        f"{row['fewer_samples_interval']}"
    )


if __name__ == "__main__":
    main()
