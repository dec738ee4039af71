"""The load tool: what is asked when, what its figures mean, and that its report says them."""

import asyncio
import itertools
import os
import random
import statistics
from collections import Counter
from typing import Any

import httpx2
import pytest

from benchmarks.load.arrivals import Level, Shape, gaps, questions, ramp
from benchmarks.load.counting import counted
from benchmarks.load.driving import Asked, Driven, Driver, End, Put, Refused
from benchmarks.load.fitting import fitted, settled
from benchmarks.load.killing import Killed, kill_in_turn
from benchmarks.load.machine import Usage, usage
from benchmarks.load.over_http import OverHttp
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


def test_memory_that_fills_at_first_and_then_goes_up_and_down_is_flat_and_a_leak_is_not() -> None:
    points = [(float(at), 100 + min(30.0, at / 20) + at // 40 % 3) for at in range(1800)]
    flat, leaking = settled(points), settled([(x, y + 0.01 * x) for x, y in points])
    assert flat is not None
    assert leaking is not None
    assert flat.is_flat
    assert not leaking.is_flat
    assert leaking.slope == pytest.approx(0.01, abs=3 * leaking.slope_error)
    assert settled(points[:30]) is None


def test_the_stages_of_a_request_add_up_to_all_of_it() -> None:
    asked = [Asked("a", CALM, 100.0, 102.0, True, 4, 80, 100.02)]
    moments = {"a": {"taken": 100.01, "planned": 100.05, "first_path": 101.0, "decided": 101.5, "answered": 101.6}}
    (found,) = spans(asked, moments).values()
    whole = found.pop("all of it")
    assert found.pop("until it was accepted")[0] == pytest.approx(20.0)
    assert set(found) == set(STAGES) - {"all of it", "until it was accepted"}
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
        "By load", "Answered once", "Stages at 1 clients", "Stages at 20/s", "Paths", "L = αT + β", "Queues", "Engine",
        "Memory", "CPU",
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


async def test_what_a_gateway_refuses_or_never_answers_is_sent_again_under_the_same_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.load.over_http._AGAIN_S", 0.0)
    troubles: list[int | Exception] = [httpx2.ConnectError("gone"), 503, 202, httpx2.ReadError("killed"), 429, 200, 200]
    keys, running = set(), [True]

    async def answer(request: httpx2.Request) -> httpx2.Response:
        trouble = troubles.pop(0)
        if request.method == "POST":
            keys.add(request.headers["idempotency-key"])
        if isinstance(trouble, Exception):
            raise trouble
        result: Any = {"status": "answered", "num_paths": 4, "tokens_out": 80}
        if trouble == 200 and running.pop():
            running.append(False)
            result = None
        return httpx2.Response(trouble, json={"id": "a", "result": result}, headers={"Retry-After": "0"})

    async with httpx2.AsyncClient(base_url="http://localhost", transport=httpx2.MockTransport(answer)) as http:
        way, put = OverHttp(http), Put()
        assert await way.ask(put, "How many?", "default") == End(True, 4, 80)
    assert (put.request_id, put.accepted is not None, len(keys), troubles) == ("a", True, 1, [])
    assert [each.kind for each in way.refused] == ["ConnectError", "503", "ReadError", "429"]


class _Silent:
    """Accepts every other question, and tells the end of none."""

    def __init__(self) -> None:
        self.num_asked = 0

    async def ask(self, put: Put, question: str, policy: str | None) -> End:
        self.num_asked += 1
        if self.num_asked % 2:
            put.request_id, put.accepted = str(self.num_asked), 1.0
        await asyncio.Event().wait()
        raise AssertionError


async def test_what_was_accepted_and_never_ends_is_lost_and_what_was_not_is_no_loss() -> None:
    driver = Driver(_Silent(), policy=None, asked=["?"], shape=Shape.STEADY, seed=1, last_s=0.4)
    await driver.run([Level(clients=4)], 0.2)
    assert sorted(driver.driven.lost) == ["1", "3"]
    assert (driver.driven.num_never_accepted, driver.driven.accepted) == (2, {"1", "3"})


def test_an_end_that_is_missing_or_comes_twice_is_found_in_the_log() -> None:
    assert counted({"a": 1, "b": 1}, {"a", "b"}, 0).is_once
    assert counted({"a": 1, "b": 1}, {"a"}, 1).is_once, "a client that gave up before it was told an id"
    for ends, accepted in (({"a": 1}, {"a", "b"}), ({"a": 2}, {"a"}), ({"a": 1, "b": 1}, {"a"})):
        assert not counted(ends, accepted, 0).is_once


async def test_parts_are_killed_one_after_the_other_within_the_time() -> None:
    gone: list[str] = []

    async def kill(part: str) -> None:
        gone.append(part)

    killed = await kill_in_turn(kill, ["kafka", "gateway"], 0.03)
    assert gone == [each.part for each in killed] == ["kafka", "gateway"]
    assert killed[0].back <= killed[1].at


def test_the_report_says_what_was_killed_what_was_made_again_and_that_nothing_ended_twice() -> None:
    asked = [Asked("a", CALM, 100.0, 101.0, True, 4, 80, 100.1), Asked("b", CALM, 101.0, 109.0, True, 4, 80, 101.1)]
    driven = Driven(asked, ["c"], 1, [Refused(103.2, "503"), Refused(103.4, "503"), Refused(104.0, "ReadError")])
    ends = counted({"a": 1, "b": 2}, driven.accepted, 1)
    told = sections(driven, spans(asked, {}), [], [], [Killed("kafka", 103.0, 108.5)], ends)
    by_title = {section.title: section.rows for section in told}
    assert by_title["Answered once"] == (
        ("accepted", "3"), ("lost", "1"), ("never accepted", "1"), ("accepted, and without an end in the log", "1"),
        ("with more ends than one", "1"), ("ended, and no client was told its id", "0"),
    )  # fmt: skip
    assert by_title["Made again"] == (("503", "2", "3", "3"), ("ReadError", "1", "4", "4"))
    assert by_title["Killed"] == (("kafka", "3", "5.5"),)
    assert document("Load", "of a test", told).count("<polyline") == 2
