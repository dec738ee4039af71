"""`conclave report`: the same sections on a terminal and in one file that needs nothing else."""

from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

from conclave.cli.report.page import html
from conclave.cli.report.section import Bar
from conclave.cli.report.sections import sections
from conclave.cli.report.terminal import lines, show
from conclave.domain.experiments.evidence import Cell, Evidence
from conclave.domain.experiments.reporting import report
from conclave.domain.redaction import masker
from conclave.domain.statistics.agreement import agreement
from conclave.store.summary import _QUERIES, Summary
from conclave.testing import events as made
from schemas.experiments import MetricCounts

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
HOSTILE = '<script>alert(1)</script>\u202e"&'
ROWS: dict[str, list[dict[str, Any]]] = {
    "totals": [{"requests": 1200, "answered": 1188, "paths": 9600, "tokens_out": 1_000_000, "p50_ms": 900.4, "p95_ms": 2100.0}],
    "hours": [{"at": NOW, "requests": 700, "failed": 3}, {"at": NOW, "requests": 500, "failed": 9}],
    "policies": [
        {"policy": "default", "arm": "default", "requests": 800, "answered": 792, "paths": 6.5, "tokens_out": 800.0,
         "p50_ms": 900.0, "p95_ms": 2000.0, "judged": 100, "total_reward": 90.0},
        {"policy": HOSTILE, "arm": "b", "requests": 400, "answered": 396, "paths": 8.0, "tokens_out": 900.0,
         "p50_ms": None, "p95_ms": None, "judged": 0, "total_reward": None},
    ],
    "votes": [{"policy": "default", "steps": 800, "votes": 5000, "for_winner": 0.82, "agreement": 0.8, "flipped": 0.1}],
    "correlated": [
        {"policy": "default", "arm": "a", "num_questions": 400, "mean_votes": 8.0, "none_wrong": 260, "one_wrong": 90,
         "two_wrong": 35, "three_wrong": 15},
        {"policy": "quick", "arm": "b", "num_questions": 400, "mean_votes": 8.0, "none_wrong": 290, "one_wrong": 10,
         "two_wrong": 10, "three_wrong": 90},
        {"policy": "new", "arm": "c", "num_questions": 2, "mean_votes": 3.0, "none_wrong": 2, "one_wrong": 0, "two_wrong": 0,
         "three_wrong": 0},
    ],
    "bounds": [
        {"policy": "sure@2", "quorum": 0.8, "at_most_wrong": 0.1, "ended": 500, "served": 430, "judged": 200, "wrong": 9.0},
        {"policy": "sure@3", "quorum": 0.5, "at_most_wrong": 0.1, "ended": 500, "served": 490, "judged": 200, "wrong": 60.0},
        {"policy": "sure@4", "quorum": 0.5, "at_most_wrong": None, "ended": 0, "served": 0, "judged": 0, "wrong": None},
    ],
    "calibration": [{"bin": 9, "judged": 80, "confidence": 0.96, "total": 76.0}],
    "feedback": [{"rater": "user", "metric": "reward", "pieces": 100, "reward": 0.9, "p50_s": 5400.0}],
    "shadows": [{"experiment": "trial", "policy": "default", "shadow_policy": "quick", "requests": 50, "compared": 48, "same": 45,
                 "shadow_answered": 49, "tokens_out": 800.0, "shadow_tokens_out": 300.0, "dollars": None, "shadow_dollars": 0.0003,
                 "p50_ms": 900.0, "shadow_p50_ms": 400.0}],
    "failures": [{"failure": "no_answer", "requests": 12}],
    "queue": [{"reason": "low margin", "open": 17}],
    "worst": [{"request_id": made.REQUEST_ID, "question": f"{HOSTILE} of ann@example.org", "answer": "7", "confidence": 0.99,
               "right_answer": None}],
}  # fmt: skip


def _sections() -> list[Any]:
    assert ROWS.keys() == _QUERIES.keys()
    change = made.started()
    counts = MetricCounts(num_units=90, num_observed=60, sum_micro=40_000_000, num_missing=30)
    cells = tuple(Cell(metric, arm, 0, 0, counts) for metric in ("reward", "answered") for arm in ("a", "b"))
    trial = report(change, Evidence(cells, made.NOW_MS), [])
    agreed = agreement([[True, True], [True, False], [False, False]])
    return sections(Summary(NOW, ROWS), [("trial", trial)], agreed, masker())


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_file_holds_every_section_and_needs_nothing_else() -> None:
    text = html(_sections(), since=NOW, now=NOW)
    elements = Elements(text).found
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in elements}
    assert not [attributes for _, attributes in elements if {"src", "href", "style"} & attributes.keys()]
    assert "<h2>Experiment trial</h2>" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in text
    assert "[EMAIL]" in text
    assert "ann@example.org" not in text
    assert sum(tag == "svg" for tag, _ in elements) == 5
    assert "99.0%" in text


def test_what_there_is_nothing_of_has_no_section() -> None:
    empty = Summary(NOW, {name: [] for name in _QUERIES} | {"totals": [ROWS["totals"][0] | {"requests": 0}]})
    assert sections(empty, [], None, masker()) == []
    assert "Nothing was asked" in html([], since=NOW, now=NOW)


def test_a_terminal_gets_the_same_tables_and_nothing_that_it_would_obey(capsys: Any) -> None:
    show(_sections())
    said = capsys.readouterr().out
    for title in ("In all", "Policies", "Calibration", "To review", "Worst questions"):
        assert f"\n{title}\n" in said
    assert "\u202e" not in said
    assert "0.900 [0." in said
    assert "Experts agree on 66.7% of 3 answers" in said
    assert "quick beside default" in said
    assert "0.000300 for ?" in said


def test_bars_are_as_long_as_their_values_and_intervals_hold_theirs() -> None:
    full, half, none = lines([Bar("a", 2.0), Bar("b", 1.0), Bar("c", 0.0)], 2.0)
    assert (full.count("█"), half.count("█"), none.count("█")) == (40, 20, 0)
    (spanned,) = lines([Bar("a", 0.5, 0.25, 0.75)], 1.0)
    assert spanned.index("├") < spanned.index("●") < spanned.index("┤")
    (edge,) = lines([Bar("a", 1.0, 1.0, 1.0)], 1.0)
    assert edge.count("●") == 1


def test_which_arm_s_errors_go_together_least_and_which_bound_is_broken_is_said() -> None:
    found = {section.title: section for section in _sections()}
    worth = found["What votes are worth"]
    assert worth.about.endswith("Errors of default / a go together less than those of all others.")
    assert [row[3] == "" for row in worth.rows] == [False, False, True], "no error, no correlation"
    assert float(worth.rows[0][5]) > 2 * float(worth.rows[1][5])
    assert [row[-1] for row in found["Bounds on wrong answers"].rows] == ["", "the bound is broken", ""]
