"""Sections on votes: how they fell, what they are worth together, and whether bounds on wrong answers hold. Pure."""

from collections.abc import Sequence

from conclave.cli.report.figures import mean_worth, percent, three_places, whole, with_interval
from conclave.cli.report.section import Bar, Section
from conclave.domain.correlation import Interval, effective_votes, interval_of
from conclave.store.summary import Record


def votes(rows: Sequence[Record]) -> Section:
    """How votes fell, by policy."""
    columns = ("policy", "steps", "votes", "for the winner", "agreement", "lead changed")
    shown = tuple(
        (
            row["policy"],
            whole(row["steps"]),
            whole(row["votes"]),
            percent(row["for_winner"]),
            percent(row["agreement"]),
            percent(row["flipped"]),
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


def correlated(rows: Sequence[Record]) -> Section:
    """What votes are worth by policy and arm, and which arm's errors go together the least."""
    found = [
        (row, interval_of((row["none_wrong"], row["one_wrong"], row["two_wrong"], row["three_wrong"]))) for row in rows
    ]
    about = (
        "How much errors of paths on one question go together (rho, with an interval of one look at 95 %), and what so many "
        "votes are worth."
    )
    least = _least([(f"{row['policy']} / {row['arm']}", rho) for row, rho in found if rho is not None])
    shown = tuple(
        (
            row["policy"],
            row["arm"],
            whole(row["num_questions"]),
            "" if rho is None else f"{rho.rho:.3f} [{rho.low:.3f}, {rho.high:.3f}]",
            f"{row['mean_votes']:.1f}",
            "" if rho is None else f"{effective_votes(row['mean_votes'], rho.rho):.1f}",
        )
        for row, rho in found
    )
    columns = ("policy", "arm", "questions", "rho", "votes", "worth")
    return Section("What votes are worth", f"{about}{least}", columns, shown)


def _least(found: Sequence[tuple[str, Interval]]) -> str:
    """The arm whose rho lies below that of every other, if there is one."""
    for name, rho in found:
        others = [other for each, other in found if each != name]
        if others and all(rho.high < other.low for other in others):
            return f" Errors of {name} go together less than those of all others."
    return ""


def bounds(rows: Sequence[Record]) -> Section:
    """Of each policy that gives no answer below a quorum: what that was certified for, and what came of it."""
    about = "Share of wrong answers among those served that were judged; its interval (95 %) holds at every look."
    columns = ("policy", "quorum", "at most wrong", "ended", "served", "judged", "wrong", "")
    shown = []
    for row in rows:
        wrong, bound = mean_worth(row["judged"], row["wrong"]), row["at_most_wrong"]
        is_broken = wrong is not None and bound is not None and wrong[1] > bound
        counts = (
            whole(row["ended"]),
            percent(row["served"] / row["ended"] if row["ended"] else None),
            whole(row["judged"]),
        )
        told = "the bound is broken" if is_broken else ""
        shown.append((row["policy"], three_places(row["quorum"]), percent(bound), *counts, with_interval(wrong), told))
    return Section("Bounds on wrong answers", about, columns, tuple(shown))
