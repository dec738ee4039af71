"""`python -m benchmarks.load`: see the command's help."""

import asyncio
import json
import sys
import time
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks.load import stacks
from benchmarks.load.arrivals import Level, Shape, ramp
from benchmarks.load.driving import Driven, drive
from benchmarks.load.report import sections
from benchmarks.load.stacks import Target
from benchmarks.load.stages import PathFigures, recorded, spans
from benchmarks.load.watching import Watch, watched
from benchmarks.measuring import commit
from conclave.cli.report.page import document
from conclave.cli.report.sections import Section
from conclave.cli.report.terminal import show

_PROBLEMS = Path(__file__).resolve().parents[2] / "data" / "problems" / "test.jsonl"
_RECORDED_S = 20.0  # for the recorder to have written what was answered


async def measure(
    stack: AbstractAsyncContextManager[Target],
    levels: list[Level],
    seconds: float,
    *,
    policy: str | None,
    shape: Shape,
    seed: int,
) -> tuple[list[Section], Driven]:
    """What a stack did under each level."""
    asked = [json.loads(line)["question"] for line in _PROBLEMS.read_text().splitlines()]
    async with stack as target:
        watch = Watch(target)
        driving = asyncio.create_task(
            drive(target, levels, seconds, policy=policy, asked=asked, shape=shape, seed=seed), name="drive"
        )
        await watched(watch, driving)
        driven = driving.result()
        moments, paths = await _recorded(target, driven)
    return sections(driven, spans(driven.asked, moments), paths, watch.looks), driven


async def _recorded(target: Target, driven: Driven) -> tuple[dict[str, dict[str, float]], list[PathFigures]]:
    """What the record knows, once it has all that was answered, or after a while."""
    wanted = {each.request_id for each in driven.asked if each.is_answered}
    until = time.monotonic() + _RECORDED_S
    while True:
        moments, paths = await recorded(target.dsn, driven.asked)
        if wanted <= moments.keys() or time.monotonic() > until:
            return moments, paths
        await asyncio.sleep(1.0)


@click.command()
@click.option("--clients", metavar="RAMP", help="Closed loops: 50:500:10 is ten levels, 5,50 two.")
@click.option("--rates", metavar="RAMP", help="Open loop, requests a second: 5:50:10, or 20.")
@click.option("--seconds", default=30.0, show_default=True, help="Of each level.")
@click.option("--shape", type=click.Choice([each.value for each in Shape]), default="steady", show_default=True)
@click.option("--policy", default=None, help="That is asked for.  [default: the service's choice]")
@click.option(
    "--up", "is_up", is_flag=True, help="Load the stack that runs (`conclave up`) in place of one of this run alone."
)
@click.option(
    "--latency-ms",
    default=500.0,
    show_default=True,
    help="Of a path, on average: scripted engine of a stack of this run.",
)
@click.option("--max-running", default=64, show_default=True, help="Paths at once, of the same.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--html", "html_path", type=click.Path(dir_okay=False, path_type=Path), default="load.html", show_default=True
)
def main(
    clients: str | None,
    rates: str | None,
    seconds: float,
    shape: str,
    policy: str | None,
    is_up: bool,
    latency_ms: float,
    max_running: int,
    seed: int,
    html_path: Path,
) -> None:
    """Put a stack under load, level after level, and tell where the time went, as text and as one HTML file.

    Exit status 1: something was lost. The driver shares the machine with the stack: see its CPU before you believe a latency.
    """
    try:
        levels = [Level(clients=round(each)) for each in ramp(clients)] if clients else []
        levels += [Level(rate_per_s=each) for each in ramp(rates)] if rates else []
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    levels = levels or [Level(clients=each) for each in (1, 5, 20, 50)]
    stack = stacks.running() if is_up else stacks.scripted(latency_ms, max_running)
    told, driven = asyncio.run(measure(stack, levels, seconds, policy=policy, shape=Shape(shape), seed=seed))
    what = "the stack that ran" if is_up else f"a scripted engine, {latency_ms:g} ms a path, {max_running} at once"
    about = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}, {what}; {shape}, {seconds:g} s a level."
    click.echo(about)
    show(told)
    html_path.write_text(document("Load", about, told), encoding="utf-8")
    click.echo(f"\n{html_path}: {len(told)} sections; {len(driven.lost)} requests lost")
    sys.exit(1 if driven.lost else 0)


if __name__ == "__main__":
    main()
