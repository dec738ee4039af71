"""`python -m benchmarks.load`: see the command's help."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from benchmarks.load import stacks
from benchmarks.load.arrivals import Level, Shape, ramp
from benchmarks.load.counting import Counted, counted, ends_in_log
from benchmarks.load.driving import Driven, Driver
from benchmarks.load.killing import Killed, kill_in_turn
from benchmarks.load.over_http import over_http
from benchmarks.load.over_kafka import over_kafka
from benchmarks.load.report import sections
from benchmarks.load.stacks import GATEWAY, KAFKA, POSTGRES, Target
from benchmarks.load.stages import PathFigures, recorded, spans
from benchmarks.load.watching import Watch, watched
from benchmarks.measuring import commit
from benchmarks.memory.report import inside
from conclave.cli.report.page import document
from conclave.cli.report.section import Section
from conclave.cli.report.terminal import show
from schemas import flow

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
    is_over_http: bool = False,
    kills: Sequence[str] = (),
) -> tuple[list[Section], Driven, Counted | None]:
    """What a stack did under each level, and whether all that it accepted ended once. Raises: click.ClickException."""
    async with stack as target:
        watch = Watch(target)
        driving = asyncio.create_task(
            _driven(
                target, levels, seconds, policy=policy, shape=shape, seed=seed, is_over_http=is_over_http, kills=kills
            ),
            name="drive",
        )
        await watched(watch, driving)
        driven, killed = driving.result()
        moments, paths = await _recorded(target, driven)
        ends = None
        if target.kill is not None:  # a stack of this run: its log holds nothing else
            ends = counted(await ends_in_log(target.brokers), driven.accepted, driven.num_never_accepted)
    return sections(driven, spans(driven.asked, moments), paths, watch.looks, killed, ends), driven, ends


async def _driven(
    target: Target,
    levels: list[Level],
    seconds: float,
    *,
    policy: str | None,
    shape: Shape,
    seed: int,
    is_over_http: bool,
    kills: Sequence[str],
) -> tuple[Driven, list[Killed]]:
    """Asks, and kills meanwhile."""
    asked = [json.loads(line)["question"] for line in _PROBLEMS.read_text().splitlines()]
    if is_over_http and target.gateway_url is None:
        raise click.ClickException("no gateway of this stack is known here")
    async with over_http(str(target.gateway_url)) if is_over_http else over_kafka(target.brokers) as way:
        driver = Driver(way, policy=policy, asked=asked, shape=shape, seed=seed)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(driver.run(levels, seconds))
            killing = None
            if target.kill is not None and kills:
                killing = tasks.create_task(kill_in_turn(target.kill, kills, seconds * len(levels)))
        driver.driven.refused = getattr(way, "refused", [])
    return driver.driven, [] if killing is None else killing.result()


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
@click.option("--gateway", "is_over_http", is_flag=True, help="Ask a gateway over HTTP in place of Kafka.")
@click.option(
    "--kill",
    "kills",
    multiple=True,
    type=click.Choice([KAFKA, POSTGRES, *flow.SERVICES]),
    help="Kill -9 this part while the load goes on, and start it again. May be repeated: spread over the run.",
)
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
@click.option(
    "--inside", "is_inside", is_flag=True, help="Tell too what memory is made of, as each service sees it from within."
)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--html", "html_path", type=click.Path(dir_okay=False, path_type=Path), default="load.html", show_default=True
)
def main(
    clients: str | None,
    rates: str | None,
    seconds: float,
    shape: str,
    is_over_http: bool,
    kills: tuple[str, ...],
    policy: str | None,
    is_up: bool,
    latency_ms: float,
    max_running: int,
    is_inside: bool,
    seed: int,
    html_path: Path,
) -> None:
    """Put a stack under load, level after level, and tell where the time went, as text and as one HTML file.

    Exit status 1: something was lost, or ended twice. The driver shares the machine with the stack: see its CPU before you
    believe a latency.
    """
    try:
        levels = [Level(clients=round(each)) for each in ramp(clients)] if clients else []
        levels += [Level(rate_per_s=each) for each in ramp(rates)] if rates else []
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if is_inside and is_up:
        raise click.UsageError("only the services of this run tell what they are made of: leave out --up")
    if kills and is_up:
        raise click.UsageError("only a stack of this run is killed: leave out --up")
    if {KAFKA, GATEWAY} & set(kills) and not is_over_http:
        raise click.UsageError("with --gateway: who asks over Kafka itself needs Kafka, and no gateway")
    levels = levels or [Level(clients=each) for each in (1, 5, 20, 50)]
    with TemporaryDirectory(prefix="memory-") as name:
        folder = Path(name)
        stack = stacks.running() if is_up else stacks.scripted(latency_ms, max_running, folder if is_inside else None)
        measured = measure(
            stack,
            levels,
            seconds,
            policy=policy,
            shape=Shape(shape),
            seed=seed,
            is_over_http=is_over_http,
            kills=kills,
        )
        told, driven, ends = asyncio.run(measured)
        told += inside(folder)
    what = "the stack that ran" if is_up else f"a scripted engine, {latency_ms:g} ms a path, {max_running} at once"
    how = f"over {'HTTP' if is_over_http else 'Kafka'}, {shape}, {seconds:g} s a level"
    about = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}, {what}; {how}."
    click.echo(about)
    show(told)
    html_path.write_text(document("Load", about, told), encoding="utf-8")
    click.echo(f"\n{html_path}: {len(told)} sections; {len(driven.lost)} requests lost")
    sys.exit(1 if driven.lost or (ends is not None and not ends.is_once) else 0)


if __name__ == "__main__":
    main()
