"""`conclave scaling`: how many processes each service needs, by what comes, what lies there, and how busy they are."""

import asyncio
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import click

from conclave.cli.amounts import positive
from conclave.cli.endpoints import find
from conclave.cli.output import print_rows
from conclave.domain.scaling import CATCH_UP_S, MOST_BUSY, Seen, Why, wanted
from conclave.local import probe
from schemas.flow import SERVICES

_CPU, _MESSAGES = "process_cpu_seconds_total", "conclave_messages_total"
_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Look:
    """One process at a moment. `filled`: how full its engine is, where it has one."""

    at: float
    done: float
    lags: Mapping[tuple[str, str], float]  # by topic and partition, of those that it has
    cpu_s: float
    filled: float | None

    @property
    def lies_there(self) -> float:
        """Records: the last of each partition may be the marker of a transaction."""
        return sum(max(0.0, lag - 1) for lag in self.lags.values())


async def look(url: str) -> Look | None:
    """The process as it is now; None where it does not answer."""
    figures, answer = await asyncio.gather(probe.figures(url), probe.readiness(url))
    if not figures:
        return None
    lags = {(each.labels["topic"], each.labels["partition"]): each.value for each in figures if each.name == probe.LAG}
    topics = {topic for topic, _ in lags}
    return Look(
        monotonic(),
        sum(each.value for each in figures if each.name == _MESSAGES and each.labels["topic"] in topics),
        lags,
        sum(each.value for each in figures if each.name == _CPU),
        _filled(answer.body),
    )


def _filled(body: str) -> float | None:
    """How full the engine is, of what a decoder says at /ready."""
    try:
        told = json.loads(body)
        running, limit, waiting = told["engine_running"], told["engine_limit"], told["engine_waiting"]
    except (ValueError, KeyError, TypeError):
        return None
    return 1.0 if waiting else min(1.0, running / max(1, limit))


def seen(processes: Sequence[Sequence[Look]]) -> Seen:
    """A service, of at least two looks at each of its processes."""
    spans = [(looks[0], looks[-1]) for looks in processes]
    seconds = [max(1e-9, last.at - first.at) for first, last in spans]
    busy = [
        max((last.cpu_s - first.cpu_s) / span, statistics.fmean(filled) if filled else 0.0)
        for (first, last), span, filled in zip(spans, seconds, map(_all_filled, processes), strict=True)
    ]
    lag = sum(last.lies_there for _, last in spans)
    return Seen(
        processes=len(processes),
        partitions=max(1, len({partition for _, last in spans for _, partition in last.lags})),
        done_per_s=sum((last.done - first.done) / span for (first, last), span in zip(spans, seconds, strict=True)),
        growth_per_s=(lag - sum(first.lies_there for first, _ in spans)) / statistics.fmean(seconds),
        lag=lag,
        busy=min(1.0, statistics.fmean(busy)),
    )


def _all_filled(looks: Iterable[Look]) -> list[float]:
    return [each.filled for each in looks if each.filled is not None]


async def watched(urls: Mapping[str, str], seconds: float) -> dict[str, list[list[Look]]]:
    """Looks at each process over some seconds, by service; of those that answered at each."""
    looks: dict[str, list[Look]] = {name: [] for name in urls}
    number = 1 + max(1, round(seconds / _EVERY_S))
    for at in range(number):
        if at:
            await asyncio.sleep(seconds / (number - 1))
        found = await asyncio.gather(*map(look, urls.values()))
        for name, each in zip(urls, found, strict=True):
            if each is not None:
                looks[name].append(each)
    by_service: dict[str, list[list[Look]]] = defaultdict(list)
    for name, of_process in looks.items():
        if len(of_process) == number and (service := service_of(name)) is not None and of_process[-1].lags:
            by_service[service].append(of_process)
    return by_service


def service_of(name: str) -> str | None:
    """The service of a process called `decoder` or `decoder-2`; None for what reads no topic of its own."""
    service, _, number = name.rpartition("-")
    service = service if number.isdigit() else name
    return service if service in SERVICES else None


@click.command()
@click.option("--seconds", default=10.0, show_default=True, type=positive(), help="To look for.")
@click.option(
    "--process",
    "processes",
    multiple=True,
    metavar="SERVICE=URL",
    help="Where a process serves /metrics. May be repeated.  [default: those of this checkout's stack]",
)
@click.option(
    "--most-busy", default=MOST_BUSY, show_default=True, type=click.FloatRange(0.05, 1.0), help="A process on average."
)
@click.option(
    "--catch-up-s",
    default=CATCH_UP_S,
    show_default=True,
    type=positive(),
    help="In which what lies there is to be done.",
)
@click.option("--json", "is_json", is_flag=True, help="As JSON, for what starts and ends processes.")
def scaling(seconds: float, processes: tuple[str, ...], most_busy: float, catch_up_s: float, is_json: bool) -> None:
    """Look at a stack for a while, and tell how many processes each service needs.

    By what comes, what lies there, and how busy its processes are: CPU of a core, and of a decoder how full its engine is.
    Exit status 1: a service needs more than it has. More processes on cores that are all in use carry no more.
    """
    found = asyncio.run(watched(_named(processes) or find().http, seconds))
    if not found:
        raise click.ClickException("no process of a service answers here: start the stack, or say where with --process")
    told = {
        name: (each := seen(looks), *wanted(each, most_busy=most_busy, catch_up_s=catch_up_s))
        for name, looks in found.items()
    }
    if is_json:
        click.echo(json.dumps({name: _row(*each) for name, each in told.items()}, indent=2))
    else:
        columns = ("service", "processes", "wanted", "a second", "lag", "grows a second", "busy", "why")
        print_rows(columns, [_cells(name, *each) for name, each in told.items()])
    sys.exit(int(any(number > each.processes or why is Why.PARTITIONS for each, number, why in told.values())))


def _named(processes: Iterable[str]) -> dict[str, str]:
    """Processes by a name of their own. Raises: click.UsageError."""
    found: dict[str, str] = {}
    for each in processes:
        service, is_said, url = each.partition("=")
        if service not in SERVICES or not is_said or not url.startswith("http://"):
            raise click.UsageError(f"--process {each}: expected SERVICE=http://…, of {', '.join(SERVICES)}")
        found[f"{service}-{len(found) + 1}"] = url
    return found


def _row(each: Seen, number: int, why: Why) -> dict[str, object]:
    return {
        "processes": each.processes,
        "wanted": number,
        "done_per_s": round(each.done_per_s, 2),
        "lag": round(each.lag),
        "lag_growth_per_s": round(each.growth_per_s, 2),
        "busy": round(each.busy, 3),
        "why": why.value,
    }


def _cells(name: str, each: Seen, number: int, why: Why) -> Sequence[str]:
    return (
        name,
        str(each.processes),
        str(number),
        f"{each.done_per_s:.1f}",
        f"{each.lag:.0f}",
        f"{each.growth_per_s:+.1f}",
        f"{each.busy:.0%}",
        why.value,
    )
