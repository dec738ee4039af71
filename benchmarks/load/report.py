"""What a run came to, as sections of a report. Figures of one machine, with all that ran on it. Pure."""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from benchmarks.cards import joules_between
from benchmarks.load.arrivals import Level
from benchmarks.load.counting import Counted
from benchmarks.load.driving import Asked, Driven
from benchmarks.load.fitting import Line, fitted, settled
from benchmarks.load.killing import Killed
from benchmarks.load.stages import STAGES, PathFigures
from benchmarks.load.watching import Look
from benchmarks.measuring import percentile
from conclave.cli.report.section import Bar, Curve, Section

_SHARES = (0.5, 0.95, 0.99)
_COLUMNS = ("p50", "p95", "p99")
_MIB_PER_HOUR = 3600.0


def sections(
    driven: Driven,
    spans: Mapping[Level, Mapping[str, Sequence[float]]],
    paths: Sequence[PathFigures],
    looks: Sequence[Look],
    killed: Sequence[Killed] = (),
    ends: Counted | None = None,
) -> list[Section]:
    """All that was seen. `ends` is None where the log holds more than this run."""
    began = min((each.asked for each in driven.asked), default=0.0)
    found = [
        _levels(driven.asked, looks),
        _once(driven, ends),
        _refused(driven, began),
        _killed(killed, began),
        *_stages(spans),
        _of_paths(paths),
        _lines(driven.asked, paths),
        _queues(looks),
        _engine(driven.asked, looks),
        *_cards(looks),
        _memory(looks),
        _cpu(driven.asked, looks),
    ]
    return [section for section in found if section.rows]


def _levels(asked: Sequence[Asked], looks: Sequence[Look]) -> Section:
    rows, bars = [], []
    for level, some in _by_level(asked).items():
        took_ms = [1000 * (each.told - each.asked) for each in some]
        seconds = max(each.told for each in some) - min(each.asked for each in some)
        rate = len(some) / seconds if seconds > 0 else 0.0
        tokens = sum(each.tokens_out for each in some) / seconds if seconds > 0 else 0.0
        within = _within(looks, some)
        cpu_s = _cpu_s(within)
        energies = (_joules(within), joules_between(within[0].cards, within[-1].cards) if within else None)
        rows.append(
            (
                str(level),
                str(len(some)),
                str(sum(not each.is_answered for each in some)),
                f"{rate:.1f}",
                f"{tokens:.0f}",
                *(f"{percentile(took_ms, share):.0f}" for share in _SHARES),
                "" if cpu_s is None else f"{1000 * cpu_s / len(some):.0f}",
                *("" if joules is None else f"{joules / len(some):.1f}" for joules in energies),
            )
        )
        bars.append(Bar(str(level), percentile(took_ms, 0.99)))
    columns = (
        "load", "ended", "without answer", "a second", "tokens/s", *(f"{each}, ms" for each in _COLUMNS),
        "CPU ms each", "processor J each", "cards J each",
    )  # fmt: skip
    most = max((bar.value for bar in bars), default=1.0)
    about = (
        "From asking to hearing the end; in an open loop from when asking was due. The bars are p99. CPU is that of every process "
        "of the stack on this machine, the driver left out."
    )
    return Section("By load", about, columns, tuple(rows), tuple(bars), most)


def _once(driven: Driven, ends: Counted | None) -> Section:
    rows = [
        ("accepted", len(driven.accepted)),
        ("lost", len(driven.lost)),
        ("never accepted", driven.num_never_accepted),
    ]
    if ends is not None:
        rows += [
            ("accepted, and without an end in the log", len(ends.never)),
            ("with more ends than one", len(ends.twice)),
            ("ended, and no client was told its id", ends.num_unknown),
        ]
    about = "Accepted: a client was told so, and is owed an end. Lost: it heard of none."
    return Section("Answered once", about, ("", "requests"), tuple((name, str(number)) for name, number in rows))


def _refused(driven: Driven, began: float) -> Section:
    """Calls that were made again, by why, with each second's number as a curve."""
    seconds: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for each in driven.refused:
        seconds[each.kind][int(each.at - began)] += 1
    rows = tuple(
        (kind, str(sum(of_kind.values())), f"{min(of_kind)}", f"{max(of_kind)}")
        for kind, of_kind in sorted(seconds.items())
    )
    curves = tuple(
        Curve(kind, tuple((float(at), float(of_kind.get(at, 0))) for at in range(max(of_kind) + 2)))
        for kind, of_kind in sorted(seconds.items())
    )
    about = (
        "Calls that were answered otherwise, or not at all, and made again; seconds are from the first question. The curves are "
        "calls a second."
    )
    return Section("Made again", about, ("why", "calls", "from second", "to second"), rows, curves=curves)


def _killed(killed: Sequence[Killed], began: float) -> Section:
    rows = tuple((each.part, f"{each.at - began:.0f}", f"{each.back - each.at:.1f}") for each in killed)
    about = "Parts that were killed while the load went on, and how long until the whole stack was ready again."
    return Section("Killed", about, ("part", "in second", "ready after s"), rows)


def _stages(spans: Mapping[Level, Mapping[str, Sequence[float]]]) -> list[Section]:
    made = []
    for level, of_stages in spans.items():
        figures = {
            name: [percentile(list(of_stages[name]), share) for share in _SHARES]
            for name in STAGES
            if of_stages.get(name)
        }
        rows = tuple((name, *(f"{each:.1f}" for each in row)) for name, row in figures.items())
        bars = tuple(Bar(name, row[0]) for name, row in figures.items())
        most = max((bar.value for bar in bars), default=1.0)
        made.append(
            Section(f"Stages at {level}", "Milliseconds; the bars are p50.", ("stage", *_COLUMNS), rows, bars, most)
        )
    return made


def _of_paths(paths: Sequence[PathFigures]) -> Section:
    figures = {
        "waited for a turn": [each.waited_ms for each in paths if each.waited_ms is not None],
        "queued in the engine": [each.queued_ms for each in paths if each.queued_ms is not None],
        "to the first token": [each.first_token_ms for each in paths if each.first_token_ms is not None],
        "decoded, in all": [each.total_ms for each in paths],
        "tokens": [float(each.tokens_out) for each in paths if each.tokens_out is not None],
    }
    rows = tuple(
        (name, *(f"{percentile(values, share):.1f}" for share in _SHARES)) for name, values in figures.items() if values
    )
    return Section("Paths", "Milliseconds, and tokens generated.", ("", *_COLUMNS), rows)


def _lines(asked: Sequence[Asked], paths: Sequence[PathFigures]) -> Section:
    """L = αT + β: of paths, and of requests by the longest of their paths."""
    known = [each for each in paths if each.tokens_out]
    longest: dict[str, int] = defaultdict(int)
    for each in known:
        longest[each.request_id] = max(longest[each.request_id], each.tokens_out or 0)
    of_requests = [each for each in asked if each.request_id in longest]
    fits = {
        "a path, by its tokens": fitted(
            [float(each.tokens_out or 0) for each in known], [each.total_ms for each in known]
        ),
        "a request, by the tokens of its longest path": fitted(
            [float(longest[each.request_id]) for each in of_requests],
            [1000 * (each.told - each.asked) for each in of_requests],
        ),
    }
    rows = tuple((name, *_line(fit)) for name, fit in fits.items() if fit is not None)
    about = "Latency in milliseconds as a line over tokens, least squares over all levels, ± one standard error."
    return Section("L = αT + β", about, ("of", "α, ms a token", "β, ms", "R²", "points"), rows)


def _line(fit: Line) -> tuple[str, ...]:
    return (
        f"{fit.slope:.3f} ± {fit.slope_error:.3f}",
        f"{fit.intercept:.1f} ± {fit.intercept_error:.1f}",
        f"{fit.r_squared:.3f}",
        str(fit.num_points),
    )


def _queues(looks: Sequence[Look]) -> Section:
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for look in looks:
        for name, lag in look.lag.items():
            series[f"lag of {name}"].append((look.at - looks[0].at, float(lag)))
        for name, number in look.waiting.items():
            series[f"waiting, {name}"].append((look.at - looks[0].at, float(number)))
    return _over_time(
        "Queues", "Records that a service has still to finish, and turns that wait for the engine.", series
    )


def _engine(asked: Sequence[Asked], looks: Sequence[Look]) -> Section:
    rows = []
    for level, some in _by_level(asked).items():
        within = _within(looks, some)
        running = [float(each.engine_running) for each in within if each.engine_running is not None]
        cache = [each.kv_cache_use for each in within if each.kv_cache_use is not None]
        if running:
            rows.append((str(level), _mean(running, 1), _mean([100 * each for each in cache], 1) if cache else ""))
    about = "Mean ± standard deviation over looks a second apart."
    return Section("Engine", about, ("load", "sequences running", "KV cache, %"), tuple(rows))


def _cards(looks: Sequence[Look]) -> list[Section]:
    """What NVIDIA cards said over time; of none, no rows."""
    use: dict[str, list[tuple[float, float]]] = defaultdict(list)
    memory: dict[str, list[tuple[float, float]]] = defaultdict(list)
    watts: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for before, look in itertools.pairwise(looks):
        for number, (earlier, card) in enumerate(zip(before.cards, look.cards, strict=False)):
            name, at = f"{number}: {card.name}", look.at - looks[0].at
            if card.use is not None:
                use[name].append((at, 100 * card.use))
            if card.memory_mib is not None:
                memory[name].append((at, card.memory_mib))
            if (spent := joules_between((earlier,), (card,))) is not None:
                watts[name].append((at, spent / (look.at - before.at)))
    return [
        _over_time("Cards, %", "Of the time, in which anything ran on a card, by NVML.", use),
        _over_time("Cards, MiB", "Memory of a card that is given out, to whichever process.", memory),
        _over_time("Cards, W", "What a card took from one look to the next.", watts),
    ]


def _memory(looks: Sequence[Look]) -> Section:
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for look in looks:
        for name, taken in look.usage.items():
            series[name].append((look.at - looks[0].at, taken.memory_mib))
    rows = []
    for name, points in sorted(series.items()):
        fit = settled(points)
        slope = "" if fit is None else f"{_MIB_PER_HOUR * fit.slope:.1f} ± {_MIB_PER_HOUR * fit.slope_error:.1f}"
        is_flat = "" if fit is None else "yes" if fit.is_flat else "no"
        first, last, most = points[0][1], points[-1][1], max(y for _, y in points)
        rows.append((name, f"{first:.0f}", f"{last:.0f}", f"{most:.0f}", slope, is_flat))
    about = (
        "Resident MiB of each part, all its processes; the slope is that of the second half, when what fills at first is full. "
        "Flat: a slope of 0 is within two standard errors. It takes half an hour at a steady load to tell."
    )
    columns = ("part", "first", "last", "largest", "MiB an hour", "flat")
    curves = tuple(Curve(name, tuple(points)) for name, points in sorted(series.items()))
    return Section("Memory", about, columns, tuple(rows), curves=curves)


def _cpu(asked: Sequence[Asked], looks: Sequence[Look]) -> Section:
    if len(looks) < 2 or not asked:
        return Section("CPU", "", (), ())
    first, last = looks[0].usage, looks[-1].usage
    spent = {name: last[name].cpu_s - first[name].cpu_s for name in last if name in first}
    seconds, num_paths = looks[-1].at - looks[0].at, sum(each.num_paths for each in asked)
    rows = tuple(
        (name, f"{cpu_s:.1f}", f"{cpu_s / seconds:.2f}", f"{1e6 * cpu_s / max(1, num_paths):.0f}")
        for name, cpu_s in sorted(spent.items(), key=lambda each: -each[1])
    )
    bars = tuple(Bar(name, max(0.0, cpu_s)) for name, cpu_s in sorted(spent.items(), key=lambda each: -each[1]))
    most = max((bar.value for bar in bars), default=1.0)
    return Section("CPU", "Of the whole run.", ("part", "CPU s", "cores", "µs a counted path"), rows, bars, most)


def _over_time(title: str, about: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> Section:
    rows = tuple(
        (name, _mean([y for _, y in points], 1), f"{max(y for _, y in points):.0f}")
        for name, points in series.items()
        if any(y for _, y in points)
    )
    curves = tuple(Curve(name, tuple(points)) for name, points in series.items() if any(y for _, y in points))
    return Section(title, about, ("", "mean ± deviation", "largest"), rows, curves=curves)


def _by_level(asked: Sequence[Asked]) -> dict[Level, list[Asked]]:
    found: dict[Level, list[Asked]] = {}
    for each in asked:
        found.setdefault(each.level, []).append(each)
    return found


def _within(looks: Sequence[Look], some: Sequence[Asked]) -> list[Look]:
    first, last = min(each.asked for each in some), max(each.told for each in some)
    return [look for look in looks if first <= look.at <= last]


def _cpu_s(looks: Sequence[Look]) -> float | None:
    """CPU seconds from the first look to the last, of the parts that are in both; None where nothing is known."""
    if len(looks) < 2 or not looks[0].usage:
        return None
    first, last = looks[0].usage, looks[-1].usage
    return sum(last[name].cpu_s - first[name].cpu_s for name in last if name in first)


def _joules(looks: Sequence[Look]) -> float | None:
    if len(looks) < 2:
        return None
    first, last = looks[0].joules, looks[-1].joules
    return None if first is None or last is None or last < first else last - first


def _mean(values: Sequence[float], digits: int) -> str:
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.pstdev(values):.{digits}f}"
