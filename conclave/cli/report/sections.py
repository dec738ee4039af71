"""The sections of a report: what the record's figures say, as text, with a plot where a picture says it sooner. Pure."""

from collections.abc import Callable, Sequence

from conclave.cli.report.figures import (
    age,
    dollars,
    mean_worth,
    milliseconds,
    percent,
    tenth,
    three_places,
    whole,
    with_interval,
)
from conclave.cli.report.section import Bar, Section
from conclave.cli.report.votes import bounds, correlated, votes
from conclave.domain.experiments.reporting import Report
from conclave.domain.statistics.agreement import Agreement
from conclave.store.summary import Record, Summary

Trials = Sequence[tuple[str, Report]]


def sections(found: Summary, trials: Trials, agreed: Agreement | None, mask: Callable[[str], str]) -> list[Section]:
    """All sections that have anything to say. Words of users are masked."""
    made = [
        _totals(found.rows["totals"]),
        _over_time(found.rows["hours"]),
        _policies(found.rows["policies"]),
        votes(found.rows["votes"]),
        correlated(found.rows["correlated"]),
        bounds(found.rows["bounds"]),
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
    share = f"{whole(row['answered'])} ({row['answered'] / row['requests']:.1%})"
    return (
        whole(row["requests"]),
        share,
        whole(row["paths"]),
        whole(row["tokens_out"]),
        milliseconds(row["p50_ms"]),
        milliseconds(row["p95_ms"]),
    )


def _over_time(rows: Sequence[Record]) -> Section:
    bars = tuple(Bar(f"{row['at']:%m-%d %H:%M}", float(row["requests"])) for row in rows)
    shown = tuple((f"{row['at']:%Y-%m-%d %H:%M}", whole(row["requests"]), whole(row["failed"])) for row in rows)
    most = max((bar.value for bar in bars), default=1.0)
    return Section("Over time", "By time of asking (UTC).", ("from", "requests", "failed"), shown, bars, most)


def _policies(rows: Sequence[Record]) -> Section:
    about = "Worth is the mean reward of judged answers; its interval (95 %) holds at every look."
    columns = ("policy", "arm", "requests", "answered", "paths", "tokens", "median", "95 %", "judged", "worth")
    shown, bars = [], []
    for row in rows:
        worth = mean_worth(row["judged"], row["total_reward"])
        name = row["policy"] if row["arm"] == "default" else f"{row['policy']} / {row['arm']}"
        costs = (
            f"{row['paths']:.1f}",
            f"{row['tokens_out']:.0f}",
            milliseconds(row["p50_ms"]),
            milliseconds(row["p95_ms"]),
        )
        counts = (whole(row["requests"]), f"{row['answered'] / row['requests']:.1%}")
        shown.append((row["policy"], row["arm"], *counts, *costs, whole(row["judged"]), with_interval(worth)))
        if worth is not None:
            bars.append(Bar(name, *worth))
    return Section("Policies", about, columns, tuple(shown), tuple(bars))


def _calibration(rows: Sequence[Record]) -> Section:
    about = "How sure answers were, and how often judges called them right. They should be alike."
    worths = [mean_worth(row["judged"], row["total"]) for row in rows]
    shown = tuple(
        (tenth(row["bin"]), f"{row['confidence']:.3f}", whole(row["judged"]), with_interval(worth))
        for row, worth in zip(rows, worths, strict=True)
    )
    bars = tuple(Bar(tenth(row["bin"]), *worth) for row, worth in zip(rows, worths, strict=True) if worth is not None)
    return Section("Calibration", about, ("confidence", "mean", "judged", "right"), shown, bars)


def _feedback(rows: Sequence[Record]) -> Section:
    shown = tuple(
        (row["rater"], row["metric"], whole(row["pieces"]), three_places(row["reward"]), age(row["p50_s"]))
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
            percent(arm.share),
            whole(arm.num_units),
            percent(arm.response_rate),
            with_interval((arm.mean, arm.lower, arm.upper) if arm.num_resolved else None),
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
            whole(row["requests"]),
            f"{row['shadow_answered'] / row['requests']:.1%}",
            with_interval(mean_worth(row["compared"], row["same"])),
            f"{row['shadow_tokens_out']:.0f} for {row['tokens_out']:.0f}",
            f"{dollars(row['shadow_dollars'])} for {dollars(row['dollars'])}",
            f"{milliseconds(row['shadow_p50_ms'])} for {milliseconds(row['p50_ms'])}",
        )
        for row in rows
    )
    return Section("Shadows", about, columns, shown)


def _reviews(rows: Sequence[Record], agreed: Agreement | None) -> Section:
    about = "Answers that nobody has reviewed, by why they should be."
    if agreed is not None:
        alpha = "" if agreed.alpha is None else f", Krippendorff's alpha {agreed.alpha:.3f}"
        about += f" Experts agree on {agreed.observed:.1%} of {agreed.num_units} answers{alpha}."
    shown = tuple((row["reason"], whole(row["open"])) for row in rows)
    return Section("To review", about, ("why", "open"), shown)


def _failures(rows: Sequence[Record]) -> Section:
    shown = tuple((row["failure"].replace("_", " "), whole(row["requests"])) for row in rows)
    return Section("Failures", "Requests without an answer.", ("why", "requests"), shown)


def _worst(rows: Sequence[Record], mask: Callable[[str], str]) -> Section:
    shown = tuple(
        (
            str(row["request_id"]),
            mask(row["question"]),
            mask(row["answer"] or ""),
            three_places(row["confidence"]),
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
