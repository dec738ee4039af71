"""The sections of a report: what the record's figures say, as text, with a plot where a picture says it sooner. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from conclave.domain.experiments.reporting import Report
from conclave.domain.statistics.agreement import Agreement
from conclave.domain.statistics.betting import Outcomes, interval
from conclave.store.summary import Record, Summary

_RISK = 0.05  # of an interval that is shown, at all looks together


@dataclass(frozen=True, slots=True)
class Bar:
    """A value, from 0 to the largest that is plotted, and the interval that it lies in, if one is known."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Values over time, both from 0."""

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A table under a title, with bars that show one of its columns, and curves that all have one scale."""

    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[Bar, ...] = ()
    most: float = 1.0  # at the right end of the bars
    curves: tuple[Curve, ...] = ()


Trials = Sequence[tuple[str, Report]]


def sections(found: Summary, trials: Trials, agreed: Agreement | None, mask: Callable[[str], str]) -> list[Section]:
    """All sections that have anything to say. Words of users are masked."""
    made = [
        _totals(found.rows["totals"]),
        _over_time(found.rows["hours"]),
        _policies(found.rows["policies"]),
        _votes(found.rows["votes"]),
        _calibration(found.rows["calibration"]),
        _feedback(found.rows["feedback"]),
        *(_trial(name, report) for name, report in trials),
        _shadows(found.rows["shadows"]),
        _reviews(found.rows["queue"], agreed),
        _failures(found.rows["failures"]),
        _worst(found.rows["worst"], mask),
    ]
    return [section for section in made if section.rows]


def _totals(rows: Sequence[Record]) -> Section:
    columns = ("requests", "answered", "paths", "tokens", "median", "95 %")
    shown = tuple(_total(row) for row in rows if row["requests"])
    return Section("In all", "", columns, shown)


def _total(row: Record) -> tuple[str, ...]:
    share = f"{_count(row['answered'])} ({row['answered'] / row['requests']:.1%})"
    return (
        _count(row["requests"]),
        share,
        _count(row["paths"]),
        _count(row["tokens_out"]),
        _ms(row["p50_ms"]),
        _ms(row["p95_ms"]),
    )


def _over_time(rows: Sequence[Record]) -> Section:
    bars = tuple(Bar(f"{row['at']:%m-%d %H:%M}", float(row["requests"])) for row in rows)
    shown = tuple((f"{row['at']:%Y-%m-%d %H:%M}", _count(row["requests"]), _count(row["failed"])) for row in rows)
    most = max((bar.value for bar in bars), default=1.0)
    return Section("Over time", "By time of asking (UTC).", ("from", "requests", "failed"), shown, bars, most)


def _policies(rows: Sequence[Record]) -> Section:
    about = "Worth is the mean reward of judged answers; its interval (95 %) holds at every look."
    columns = ("policy", "arm", "requests", "answered", "paths", "tokens", "median", "95 %", "judged", "worth")
    shown, bars = [], []
    for row in rows:
        worth = _worth(row["judged"], row["total_reward"])
        name = row["policy"] if row["arm"] == "default" else f"{row['policy']} / {row['arm']}"
        costs = (f"{row['paths']:.1f}", f"{row['tokens_out']:.0f}", _ms(row["p50_ms"]), _ms(row["p95_ms"]))
        counts = (_count(row["requests"]), f"{row['answered'] / row['requests']:.1%}")
        shown.append((row["policy"], row["arm"], *counts, *costs, _count(row["judged"]), _interval(worth)))
        if worth is not None:
            bars.append(Bar(name, *worth))
    return Section("Policies", about, columns, tuple(shown), tuple(bars))


def _votes(rows: Sequence[Record]) -> Section:
    columns = ("policy", "steps", "votes", "for the winner", "agreement", "lead changed")
    shown = tuple(
        (
            row["policy"],
            _count(row["steps"]),
            _count(row["votes"]),
            _share(row["for_winner"]),
            _share(row["agreement"]),
            _share(row["flipped"]),
        )
        for row in rows
    )
    bars = tuple(Bar(row["policy"], row["for_winner"]) for row in rows if row["for_winner"] is not None)
    return Section(
        "Votes",
        "Steps on which several paths voted, and how many of the votes were the winner's.",
        columns,
        shown,
        bars,
    )


def _calibration(rows: Sequence[Record]) -> Section:
    about = "How sure answers were, and how often judges called them right. They should be alike."
    worths = [_worth(row["judged"], row["total"]) for row in rows]
    shown = tuple(
        (_tenth(row["bin"]), f"{row['confidence']:.3f}", _count(row["judged"]), _interval(worth))
        for row, worth in zip(rows, worths, strict=True)
    )
    bars = tuple(Bar(_tenth(row["bin"]), *worth) for row, worth in zip(rows, worths, strict=True) if worth is not None)
    return Section("Calibration", about, ("confidence", "mean", "judged", "right"), shown, bars)


def _feedback(rows: Sequence[Record]) -> Section:
    shown = tuple(
        (row["rater"], row["metric"], _count(row["pieces"]), _number(row["reward"]), _seconds(row["p50_s"]))
        for row in rows
    )
    return Section("Feedback", "What holds, by who said it.", ("by", "of", "pieces", "mean", "median after"), shown)


def _trial(name: str, report: Report) -> Section:
    alarms = [each.stage for each in report.mismatches if each.is_alarm]
    trust = f" ALARM: units {', '.join(alarms)} not as drawn." if alarms else ""
    about = f"Revision {report.revision}, weights {report.version}; winner: {report.winner or 'none yet'}.{trust}"
    shown = tuple(
        (
            arm.arm,
            arm.policy,
            _share(arm.share),
            _count(arm.num_units),
            _share(arm.response_rate),
            _interval((arm.mean, arm.lower, arm.upper) if arm.num_resolved else None),
            f"{arm.probability_best:.3f}",
            arm.out_by or "",
        )
        for arm in report.arms
    )
    bars = tuple(Bar(arm.arm, arm.mean, arm.lower, arm.upper) for arm in report.arms if arm.num_resolved)
    columns = ("arm", "policy", "share", "units", "judged", "mean", "P(best)", "out by")
    return Section(f"Experiment {name}", about, columns, shown, bars)


def _shadows(rows: Sequence[Record]) -> Section:
    about = "What nobody saw beside what was served, on the same requests. The share of equal answers has an interval (95 %)."
    columns = ("experiment", "policies", "requests", "answered", "the same", "tokens", "dollars", "median")
    shown = tuple(
        (
            row["experiment"],
            f"{row['shadow_policy']} beside {row['policy']}",
            _count(row["requests"]),
            f"{row['shadow_answered'] / row['requests']:.1%}",
            _interval(_worth(row["compared"], row["same"])),
            f"{row['shadow_tokens_out']:.0f} for {row['tokens_out']:.0f}",
            f"{_dollars(row['shadow_dollars'])} for {_dollars(row['dollars'])}",
            f"{_ms(row['shadow_p50_ms'])} for {_ms(row['p50_ms'])}",
        )
        for row in rows
    )
    return Section("Shadows", about, columns, shown)


def _reviews(rows: Sequence[Record], agreed: Agreement | None) -> Section:
    about = "Answers that nobody has reviewed, by why they should be."
    if agreed is not None:
        alpha = "" if agreed.alpha is None else f", Krippendorff's alpha {agreed.alpha:.3f}"
        about += f" Experts agree on {agreed.observed:.1%} of {agreed.num_units} answers{alpha}."
    shown = tuple((row["reason"], _count(row["open"])) for row in rows)
    return Section("To review", about, ("why", "open"), shown)


def _failures(rows: Sequence[Record]) -> Section:
    shown = tuple((row["failure"].replace("_", " "), _count(row["requests"])) for row in rows)
    return Section("Failures", "Requests without an answer.", ("why", "requests"), shown)


def _worst(rows: Sequence[Record], mask: Callable[[str], str]) -> Section:
    shown = tuple(
        (
            str(row["request_id"]),
            mask(row["question"]),
            mask(row["answer"] or ""),
            _number(row["confidence"]),
            mask(row["right_answer"] or ""),
        )
        for row in rows
    )
    return Section(
        "Worst questions",
        "Judged wrong, the surest first.",
        ("request", "question", "answer", "confidence", "right"),
        shown,
    )


def _worth(judged: int, total: float | None) -> tuple[float, float, float] | None:
    """The mean reward and the interval that it lies in; None where nobody judged."""
    if not judged or total is None:
        return None
    outcomes = Outcomes(judged, total)
    return outcomes.mean, *interval(outcomes, _RISK)


def _interval(worth: tuple[float, float, float] | None) -> str:
    return "" if worth is None else f"{worth[0]:.3f} [{worth[1]:.3f}, {worth[2]:.3f}]"


def _tenth(place: int) -> str:
    return f"{place / 10:.1f} … {(place + 1) / 10:.1f}"


def _count(number: Any) -> str:
    return f"{int(number or 0):,}"


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _number(number: float | None) -> str:
    return "" if number is None else f"{number:.3f}"


def _dollars(dollars: float | None) -> str:
    return "?" if dollars is None else f"{dollars:.6f}"


def _ms(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:,.0f} ms"


def _seconds(seconds: float | None) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds is not None and seconds >= size:
            return f"{float(seconds) / size:.1f} {unit}"
    return "" if seconds is None else f"{float(seconds):.0f} s"
