"""`conclave replay`: recorded samples put to the vote again, by the code that decides live ones."""

import asyncio
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from conclave.cli import counterfactual, recordings
from conclave.cli.endpoints import postgres_dsn
from conclave.cli.frontier import Point, mark, plot, svg
from conclave.cli.output import print_rows
from conclave.cli.since import since as since_of
from conclave.cli.votes_worth import gate, worth
from conclave.domain import counting
from conclave.domain.comparison import Interval, Summary, outcomes, summary
from conclave.domain.equivalence import EQUIVALENCES
from conclave.domain.equivalence.judged import JUDGED
from conclave.domain.quality import QUALITIES, of_quality
from conclave.domain.replay import Recording, judged_recording
from conclave.domain.schedules import SCHEDULES
from conclave.domain.stopping import STOPPING_RULES
from conclave.domain.weighing import WEIGHINGS
from conclave.extensions import SETTING, load_extensions, named_in
from conclave.judges.pool import JudgePool
from schemas.values import MAX_SAMPLES, Ask

_DEFAULT_RULES = ("fixed", *QUALITIES, "early_stopping", "doubling", "sprt", "mixture_sprt", "bayes_factor")
_LEGEND = """\
change: points against the majority of all samples (95 % interval, paired bootstrap); worst: in the set where it does worst;
tokens: of those of all samples; latency: ticks of one token; agrees: with that majority; short: recordings that ended too soon"""


@dataclass(frozen=True, slots=True)
class Way:
    """A way of voting under its name."""

    name: str
    ask: Ask


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="[FILE]...")
@click.option("--stored", is_flag=True, help="The record's latest answers, with what feedback says is right.")
@click.option("--served-by", metavar="POLICY", help="With --stored: answers of this policy only.")
@click.option(
    "--latest", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="With --stored: so many."
)
@click.option(
    "--since",
    callback=since_of,
    metavar="TIME",
    help="With --stored: think requests since then through again: 7d, 12h, 2026-11-01.",
)
@click.option(
    "--policy", metavar="NAME[@VERSION]", help="With --since: as this policy would.  [default: each as its own]"
)
@click.option(
    "--weights",
    metavar="NAME@VERSION",
    help="With --since: votes weighed as this policy's version has learned, or requests dealt out by an experiment's version.",
)
@click.option("--list", "num_listed", default=20, show_default=True, help="With --since: so many changed answers.")
@click.option(
    "--rule", "rules", multiple=True, metavar="RULE", help="A stopping rule or quality: ahead_by_k:lead=3,bound=0."
)
@click.option(
    "--weighing", "weighings", multiple=True, metavar="NAME", help="As softmax_likelihood:weight_temperature=0.5."
)
@click.option("--schedule", "schedules", multiple=True, metavar="NAME", help="A schedule, as in_flight:in_flight=8.")
@click.option(
    "--max-samples", type=click.IntRange(1, MAX_SAMPLES), help="Samples of a question at most.  [default: all]"
)
@click.option(
    "--equivalence",
    default="short_answer",
    show_default=True,
    help="Which answers are the same vote; verbatim: equal texts.",
)
@click.option(
    "--orders", default=0, type=click.IntRange(0, 1000), help="Average over so many random orders of the samples."
)
@click.option("--through-kafka", is_flag=True, help="Also through voters that run, on a broker of its own.")
@click.option(
    "--voters", default=2, show_default=True, type=click.IntRange(1, 16), help="With --through-kafka: so many."
)
@click.option(
    "--svg", "svg_path", type=click.Path(dir_okay=False, path_type=Path), help="Draw the frontier into this file."
)
@click.option("--json", "as_json", is_flag=True, help="Print all as one JSON object.")
def replay(
    files: tuple[Path, ...],
    *,
    stored: bool,
    served_by: str | None,
    latest: int,
    since: datetime | None,
    policy: str | None,
    weights: str | None,
    num_listed: int,
    rules: tuple[str, ...],
    weighings: tuple[str, ...],
    schedules: tuple[str, ...],
    max_samples: int | None,
    equivalence: str,
    orders: int,
    through_kafka: bool,
    voters: int,
    svg_path: Path | None,
    as_json: bool,
) -> int:
    """Put recorded samples to the vote again: what a rule, a weighing or a schedule would have come to, and cost.

    FILE has a question a line: {"id", "gold", "answers": [...], "tokens": [...]}, in launch order, null for a sample without an
    answer; gzipped if its name ends in .gz. Several files count alike. All combinations of what is given are played.

    With --stored and --since, whole requests of the record are thought through again, as --policy would, or with the votes weighed
    as --weights has it: which answers would have been others, what it would have cost, and what it would be worth.

    Exit status 1: with --through-kafka, a verdict is not that of the same votes counted here.
    """
    if bool(files) == stored:
        raise click.UsageError("give one or more FILEs, or --stored")
    if (since is None) != (policy is None and weights is None) or (since is not None and not stored):
        raise click.UsageError("with --stored, give --since and --policy or --weights together")
    if since is not None:
        counterfactual.run(
            counterfactual.Asked(since, latest, policy, weights, served_by), num_listed=num_listed, as_json=as_json
        )
        return 0
    load_extensions(named_in(os.environ.get(SETTING, "")))
    sets = {"stored": _stored(served_by, latest)} if stored else {_name(path): recordings.read(path) for path in files}
    sets = _judged(sets, equivalence)
    most = max_samples or max(len(each.ballots) for found in sets.values() for each in found)
    ways = _ways(rules or _DEFAULT_RULES, weighings or ("alike",), schedules or ("waves",), equivalence, most)
    results = [(way, summary([outcomes(found, way.ask, orders) for found in sets.values()])) for way in ways]
    points = [_point(way, found) for way, found in results if found.change is not None]
    if svg_path is not None:
        svg_path.write_text(svg(points, f"Votes over {', '.join(sets)}"), encoding="utf-8")
    live = asyncio.run(_through_kafka(sets, ways, voters)) if through_kafka else []
    if as_json:
        document = _document(sets, results, equivalence) | ({"through_kafka": live} if through_kafka else {})
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        _print(sets, results, points, equivalence)
        for row in live:
            alike = "as here" if not row["differ"] else f"NOT as here on {', '.join(row['differ'][:10])}"
            told = f"{row['right']} of {row['questions']} right by {row['samples']} samples and {row['tokens']} tokens"
            click.echo(f"{row['set']}, {row['way']}, through Kafka: {told}, {alike}")
    return 0 if all(not row["differ"] for row in live) else 1


def _judged(sets: dict[str, list[Recording]], equivalence: str) -> dict[str, list[Recording]]:
    """The sets with what a judge finds to be the same in the same words, for an equivalence that has a judge."""
    if equivalence not in JUDGED:
        return sets
    pool, ask = JudgePool(num_processes=max(1, (os.cpu_count() or 1) - 1)), Ask(form="any", equivalence=equivalence)
    if not pool.is_there:
        raise click.ClickException(f"--equivalence {equivalence} needs a judge: install conclave[math]")
    try:
        return {name: [judged_recording(each, ask, pool.decided) for each in found] for name, found in sets.items()}
    finally:
        pool.close()


async def _through_kafka(
    sets: dict[str, list[Recording]], ways: Sequence[Way], num_voters: int
) -> list[dict[str, Any]]:
    """What each way comes to on each set by voters that run."""
    from conclave.cli import through_kafka
    from conclave.local.state import Folders

    async with through_kafka.running(num_voters, Folders.default().jars) as voters:
        return [
            {"set": name, "way": way.name, **await through_kafka.compared(voters, found, way.ask)}
            for name, found in sets.items()
            for way in ways
        ]


def _stored(policy: str | None, latest: int) -> list[Recording]:
    from conclave.store.queries import stored_paths

    found = recordings.of_stored(asyncio.run(stored_paths(postgres_dsn(), policy, latest)))
    if not found:
        raise click.ClickException("the record has no answered request" + (f" of policy {policy}" if policy else ""))
    return found


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def _ways(
    rules: Sequence[str], weighings: Sequence[str], schedules: Sequence[str], equivalence: str, most: int
) -> list[Way]:
    """All combinations. Raises: click.UsageError for a name or a parameter that is not there."""
    if equivalence not in EQUIVALENCES:
        raise click.UsageError(f"--equivalence: expected one of {', '.join(EQUIVALENCES)}, got {equivalence}")
    ways = []
    for rule, weighing, schedule in itertools.product(rules, weighings, schedules):
        stopping, params = _spec(rule, "--rule", {**STOPPING_RULES, **QUALITIES})
        by, of_weighing = _spec(weighing, "--weighing", WEIGHINGS)
        when, of_schedule = _spec(schedule, "--schedule", SCHEDULES)
        ask = Ask(form="any", equivalence=equivalence, max_samples=most, weighing=by, schedule=when, stopping="fixed")
        ask = of_quality(ask, stopping) if stopping in QUALITIES else replace(ask, stopping=stopping)
        ask = replace(ask, params={**ask.params, **params, **of_weighing, **of_schedule})
        _check_params(ask, rule)
        told = [rule, *(each for each in (weighing, schedule) if each not in ("alike", "waves"))]
        ways.append(Way(" ".join(told), ask))
    return ways


def _spec(text: str, option: str, table: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """A name and its parameters, from `name:param=value,…`."""
    name, _, given = text.partition(":")
    if name not in table:
        raise click.UsageError(f"{option}: expected one of {', '.join(table)}, got {name}")
    params = {}
    for each in filter(None, given.split(",")):
        param, _, value = each.partition("=")
        try:
            params[param.strip()] = float(value)
        except ValueError:
            raise click.UsageError(f"{option} {name}: expected {param}=NUMBER, got {each}") from None
    return name, params


def _check_params(ask: Ask, rule: str) -> None:
    declared = counting.params_of(ask)
    for name, value in ask.params.items():
        if name not in declared:
            raise click.UsageError(f"{rule}: {name}: expected one of {', '.join(declared)}")
        if not declared[name].takes(value):
            raise click.UsageError(f"{rule}: {name}: expected {declared[name].expected}, got {value:g}")


def _point(way: Way, found: Summary) -> Point:
    change = found.change
    assert change is not None
    return Point(way.name, found.samples.value, 100 * change.value, 100 * change.low, 100 * change.high)


def _print(
    sets: dict[str, list[Recording]], results: Sequence[tuple[Way, Summary]], points: Sequence[Point], equivalence: str
) -> None:
    for name, found in sets.items():
        known = sum(each.gold is not None for each in found)
        most = max(len(each.ballots) for each in found)
        click.echo(f"{name}: {len(found)} questions, {known} with a right answer, up to {most} samples each")
    columns = ("", "way", "accuracy", "change", "worst", "samples", "launched", "tokens", "latency", "agrees", "short")
    print_rows(columns, [_row(number, *each) for number, each in enumerate(results)])
    click.echo(_LEGEND)
    for line in plot(points) if len(points) > 1 else ():
        click.echo(line)
    for line in (*worth(sets, equivalence), *gate(sets, equivalence)):
        click.echo(line)


def _row(number: int, way: Way, found: Summary) -> tuple[str, ...]:
    change = found.change
    return (
        mark(number),
        way.name,
        "unknown" if found.accuracy is None else f"{100 * found.accuracy:.2f} %",
        "" if change is None else _interval(Interval(100 * change.value, 100 * change.low, 100 * change.high), "+.2f"),
        "" if found.worst_change is None else f"{100 * found.worst_change:+.2f}",
        _interval(found.samples, ".2f"),
        f"{found.launched:.2f}",
        f"{100 * found.token_share.value:.1f} %",
        f"{found.latency.value:.0f}",
        f"{100 * found.agreement:.1f} %",
        str(found.num_cut_short),
    )


def _interval(figure: Interval, form: str) -> str:
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]"


def _document(
    sets: dict[str, list[Recording]], results: Sequence[tuple[Way, Summary]], equivalence: str
) -> dict[str, Any]:
    return {
        "sets": {name: len(found) for name, found in sets.items()},
        "ways": [{"name": way.name, **asdict(found)} for way, found in results],
        "worth": worth(sets, equivalence),
        "weighings": gate(sets, equivalence),
    }
