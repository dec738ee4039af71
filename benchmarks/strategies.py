"""`make bench-strategies`: every way of reasoning of the shipped model on held-out problems, by difficulty.

Each policy answers the same problems on the bare model (no pipeline): accuracy, and what it cost: samples, tokens and dollars a
question at a given price. Accuracy and counts do not depend on how busy the machine is; times do, and are not taken. `--policy`
measures some anew and keeps what was measured of the others on as many problems. One table, strategies.json among the results,
written after each policy, and a plot of accuracy against tokens: strategies.svg beside it, and the terminal.
"""

import json
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path

import click
from msgspec.structs import replace

from benchmarks.measuring import commit, record, result_path
from benchmarks.scatter import Point, as_svg, as_text
from conclave import policies, prompts
from schemas.values import Policy
from training.decoding import BatchDecoder
from training.engines import ENGINES
from training.generator import held_out
from training.problems import Problem
from training.reasoning import Answered, answered

_CHECKOUT = Path(__file__).resolve().parents[1]
_PROMPT_SET = "reasoner-v3"
_LEVELS = {"1-2": range(1, 3), "3-4": range(3, 5), "5-8": range(5, 9)}  # steps of a problem

Row = dict[str, float]


def figures(found: Sequence[Answered], problems: Sequence[Problem], price_in: float, price_out: float) -> Row:
    """What a policy came to: accuracies in percent, with half the width of their 95 % interval; costs a question."""
    right = [each.answer == str(problem.answer) for each, problem in zip(found, problems, strict=True)]
    row: Row = {"right_pct": _share(right), "right_pct_pm": 196 * sqrt(_variance(right) / max(1, len(right)))}
    for level, steps in _LEVELS.items():
        of_level = [each for each, problem in zip(right, problems, strict=True) if problem.num_steps in steps]
        row[f"right_{level}_steps_pct"] = _share(of_level)
    num = max(1, len(found))
    row["paths"] = sum(each.num_paths for each in found) / num
    row["steps"] = sum(each.num_steps for each in found) / num
    row["tokens_in"] = sum(each.tokens_in for each in found) / num
    row["tokens_out"] = sum(each.num_tokens for each in found) / num
    row["dollars_per_1000"] = (row["tokens_in"] * price_in + row["tokens_out"] * price_out) / 1_000
    return {name: round(value, 4 if name == "dollars_per_1000" else 1) for name, value in row.items()}


def measured_policies(names: Sequence[str]) -> list[Policy]:
    """Those of the shipped model, or the named ones among them."""
    shipped = [read.policy for read in policies.shipped() if read.policy.prompt_set == _PROMPT_SET]
    shipped += [_fixed(policy, rounds) for policy in shipped if policy.effort is not None for rounds in (2, 6)]
    return [policy for policy in shipped if not names or policy.name in names]


def _fixed(policy: Policy, rounds: int) -> Policy:
    """A policy of rounds that takes the same number of them for every question, whatever it believes by then."""
    params = {**policy.params, "rounds": float(rounds), "enough": 1.0, "settled": 0.0}
    return replace(policy, name=f"{policy.name}-fixed-{rounds}", effort=None, params=params)


def table(rows: Mapping[str, Row]) -> str:
    """The figures, a line a policy, the most accurate first."""
    names = list(next(iter(rows.values()), {}))
    widths = {name: max(len(name), 8) for name in names}
    lines = [f"{'policy':<22}" + "".join(f"  {name:>{widths[name]}}" for name in names)]
    for policy, row in sorted(rows.items(), key=lambda item: -item[1]["right_pct"]):
        lines.append(f"{policy:<22}" + "".join(f"  {row[name]:>{widths[name]}g}" for name in names))
    return "\n".join(lines)


def _earlier(num_problems: int) -> tuple[dict[str, Row], dict[str, str]]:
    """What was measured before on as many problems: figures and commits, by policy."""
    try:
        found = json.loads(result_path("strategies").read_text())
    except FileNotFoundError:
        return {}, {}
    return (found["policies"], found["measured_at_commit"]) if found["num_problems"] == num_problems else ({}, {})


def _share(flags: Sequence[bool]) -> float:
    return 100 * sum(flags) / max(1, len(flags))


def _variance(flags: Sequence[bool]) -> float:
    share = sum(flags) / max(1, len(flags))
    return share * (1 - share)


@click.command()
@click.option("--problems", default=500, show_default=True, help="Held-out problems, from the first on.")
@click.option("--policy", "names", multiple=True, help="Only these.  [default: all of the shipped model]")
@click.option("--price-in", default=0.05, show_default=True, help="Dollars per million tokens read.")
@click.option("--price-out", default=0.20, show_default=True, help="Dollars per million tokens written.")
@click.option("--engine", type=click.Choice(list(ENGINES)), default="vllm", show_default=True)
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=_CHECKOUT / "models" / "reasoner")
def main(problems: int, names: tuple[str, ...], price_in: float, price_out: float, engine: str, model: Path) -> None:
    """Measure the ways of reasoning."""
    asked = held_out(problems)
    decoder = BatchDecoder(ENGINES[engine](model), prompts.load(_PROMPT_SET))
    path, (rows, measured_at) = result_path("strategies"), _earlier(len(asked))
    limits = f"the first {len(asked)} held-out problems, one draw of each; the engine is {engine}"
    about = {
        "num_problems": len(asked),
        "limits": limits,
        "dollars_per_million_tokens": {"in": price_in, "out": price_out},
    }
    for policy in measured_policies(names):
        found = answered(decoder, policy, [each.question for each in asked])
        rows[policy.name] = figures(found, asked, price_in, price_out)
        measured_at[policy.name] = commit()
        print(policy.name, rows[policy.name], flush=True)
        record("strategies", {**about, "policies": rows, "measured_at_commit": measured_at})
    points = [Point(name, row["tokens_out"], row["right_pct"]) for name, row in rows.items()]
    print("\n" + table(rows) + "\n\n" + as_text(points, "tokens a question", "right, %"))
    path.with_suffix(".svg").write_text(as_svg(points, "tokens written a question", "right, %"))
    print(path, path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
