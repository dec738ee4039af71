"""The load tool: what is asked when, what its figures mean, and that its report says them."""

import itertools
import os
import random
import statistics
from collections import Counter

import pytest

from benchmarks.load.arrivals import Level, Shape, gaps, questions, ramp
from benchmarks.load.driving import Asked, Driven
from benchmarks.load.fitting import fitted
from benchmarks.load.machine import Usage, usage
from benchmarks.load.report import sections
from benchmarks.load.stages import STAGES, PathFigures, spans
from benchmarks.load.watching import Look
from conclave.cli.report.page import document

CALM, BUSY = Level(clients=1), Level(rate_per_s=20.0)


def test_a_ramp_is_a_list_or_a_first_a_last_and_a_number_of_levels() -> None:
    assert ramp("50:500:10") == tuple(float(each) for each in range(50, 501, 50))
    assert ramp("5,10") == (5.0, 10.0)
    assert ramp("20") == ramp("20:20:1") == (20.0,)
    for wrong in ("", "0", "1:2", "a:b:c"):
        with pytest.raises(ValueError, match=r"."):
            ramp(wrong)


@pytest.mark.parametrize("shape", list(Shape))
def test_arrivals_come_at_the_rate_that_was_asked_for_whatever_their_shape(shape: Shape) -> None:
    drawn = list(itertools.islice(gaps(shape, 50.0, random.Random(1)), 20_000))
    assert min(drawn) > 0
    assert sum(drawn) == pytest.approx(len(drawn) / 50.0, rel=0.02)
    is_uneven = statistics.pstdev(drawn) > 2 / 50.0
    assert is_uneven is (shape is Shape.BURSTY)


def test_of_zipf_s_questions_the_first_is_asked_twice_as_often_as_the_second_and_a_little_more() -> None:
    drawn = Counter(
        itertools.islice(questions(Shape.ZIPF, [str(each) for each in range(500)], random.Random(1)), 20_000)
    )
    assert drawn["0"] / drawn["1"] == pytest.approx(2**1.1, rel=0.1)
    even = Counter(itertools.islice(questions(Shape.STEADY, ["a", "b"], random.Random(1)), 2_000))
    assert even["a"] == pytest.approx(1_000, rel=0.1)


def test_a_line_is_found_again_with_an_error_that_covers_it() -> None:
    rng = random.Random(1)
    xs = [float(each) for each in range(200)]
    line = fitted(xs, [2.5 * x + 40 + rng.gauss(0, 10) for x in xs])
    assert line is not None
    assert abs(line.slope - 2.5) < 3 * line.slope_error
    assert abs(line.intercept - 40) < 3 * line.intercept_error
    assert not line.is_flat
    flat = fitted(xs, [100 + (-1) ** at * 10 for at in range(200)])
    assert flat is not None
    assert flat.is_flat
    level = fitted([1.0, 2.0, 3.0], [5.0, 5.0, 5.0])
    assert level is not None
    assert (level.slope, level.intercept, level.is_flat) == (0.0, 5.0, True)
    assert fitted([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert fitted([1.0, 2.0], [1.0, 2.0]) is None


def test_the_stages_of_a_request_add_up_to_all_of_it() -> None:
    asked = [Asked("a", CALM, 100.0, 102.0, True, 4, 80)]
    moments = {"a": {"taken": 100.01, "planned": 100.05, "first_path": 101.0, "decided": 101.5, "answered": 101.6}}
    (found,) = spans(asked, moments).values()
    whole = found.pop("all of it")
    assert set(found) == set(STAGES) - {"all of it"}
    assert sum(each[0] for each in found.values()) == pytest.approx(whole[0]) == pytest.approx(2000.0)


def test_what_the_kernel_says_of_this_very_process_is_found() -> None:
    (found,) = usage({"tests": os.getpid(), "nobody": 2**22 + 1}).values()
    assert found.memory_mib > 10
    assert found.cpu_s > 0
    above = usage({"parent": os.getppid()})
    assert above["parent"].memory_mib > found.memory_mib


def test_the_report_tells_every_figure_that_there_is_and_leaves_out_what_nobody_measured() -> None:
    asked = [
        Asked(f"{level}-{number}", level, 100.0 + start + number, 100.5 + start + number, True, 4, 80)
        for start, level in ((0, CALM), (30, BUSY))
        for number in range(20)
    ]
    paths = [PathFigures(each.request_id, 5.0, None, 10.0, 40.0 + 2 * at, 10 + at) for at, each in enumerate(asked)]
    looks = [
        Look(
            100.0 + second,
            {"decoder": Usage(200.0 + second % 3, 0.1 * second)},
            {"voter": second},
            {"batch": 7},
            8,
            None,
            None,
        )
        for second in range(60)
    ]
    told = sections(Driven(asked), spans(asked, {}), paths, looks)
    titles = [section.title for section in told]
    assert titles == [
        "By load", "Stages at 1 clients", "Stages at 20/s", "Paths", "L = αT + β", "Queues", "Engine", "Memory", "CPU",
    ]  # fmt: skip
    by_title = {section.title: section for section in told}
    assert by_title["By load"].rows[0][:3] == ("1 clients", "20", "0")
    assert by_title["By load"].rows[0][5:8] == ("500", "500", "500")
    assert by_title["L = αT + β"].rows[0][1].startswith("2.000 ±")
    assert [row[0] for row in by_title["Paths"].rows] == [
        "waited for a turn",
        "to the first token",
        "decoded, in all",
        "tokens",
    ]
    assert by_title["Memory"].rows[0][-1] == "yes"
    page = document("Load", "of a test <b>", told)
    assert page.count("<polyline") == 3
    assert "<b>" not in page
    assert "<script" not in page
