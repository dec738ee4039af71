"""Where things lie in drawings: inside their frames, in the order of events, and saying what the tally says."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from conclave.store.listing import Filter
from conclave.store.trace import Story
from conclave.testing import events as made
from services.gateway.pages import drawing
from services.gateway.pages.stories import page_of
from tests.memory_view import MemoryView
from tests.played import played


async def _stories() -> list[Story]:
    view = MemoryView(await played(16, now_ms=made.NOW_MS, seed=7))
    page = await view.requests(Filter())
    found = [await view.story(line.request_id) for line in page.lines]
    return [story for story in found if story is not None]


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    return asyncio.run(_stories())


def test_a_tally_grows_to_what_the_verdict_counted(stories: list[Story]) -> None:
    for story in stories:
        for step in story.steps:
            grown = drawing.growth(step, 16)
            if grown is None or not step.is_decided:
                continue
            assert {line.answer: line.votes for line in grown.lines} == {
                row.answer: row.votes for row in step.tally[:8]
            }
            assert grown.lines[0].answer == step.answer
            assert grown.lines[0].colour == "a0"
            assert len(grown.dots) == grown.num_counted
            assert 0 < grown.stop_x <= 100
            for dot in grown.dots:
                assert 0 < dot.x <= grown.stop_x
                assert 0 <= dot.y <= 100


def test_lines_of_a_tally_only_rise_and_never_go_back(stories: list[Story]) -> None:
    lines = [
        line for story in stories for step in story.steps if (grown := drawing.growth(step, 16)) for line in grown.lines
    ]
    assert lines
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.points.split()]
        assert points == sorted(points, key=lambda point: (point[0], -point[1]))
        assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_no_two_steps_of_a_plan_lie_on_each_other_and_arrows_go_to_the_right(stories: list[Story]) -> None:
    graphs = [graph for story in stories if (graph := drawing.graph(story)) is not None]
    assert graphs
    for graph in graphs:
        places = [(node.x, node.y) for node in graph.nodes]
        assert len(places) == len(set(places))
        at = {node.step.step_index: node for node in graph.nodes}
        for node in graph.nodes:
            assert 0 <= node.x <= graph.width - drawing.NODE_WIDTH
            assert 0 <= node.y <= graph.height - drawing.NODE_HEIGHT
            assert all(at[index].x < node.x for index in node.step.depends_on)
        assert sum(node.is_answer for node in graph.nodes) <= 1


def test_a_waterfall_stays_within_its_frame_and_names_every_stage(stories: list[Story]) -> None:
    for story in stories:
        fall = drawing.waterfall(story)
        if fall is None:
            assert not any(step.paths for step in story.steps)
            continue
        assert {span.step.step_index for span in fall.spans if span.step is not None} == {
            step.step_index for step in story.steps if step.paths
        }
        for span in fall.spans:
            for bar in span.bars:
                assert 0 <= bar.x <= 100
                assert 0 <= bar.width <= 100.001 - bar.x
                assert 0 <= bar.y <= span.height - bar.height


def test_costs_add_up(stories: list[Story]) -> None:
    for story in stories:
        if story.line.is_open:
            continue
        costs = page_of(story)["costs"]
        assert costs[-1].tokens_out == story.line.tokens_out
        assert costs[-1].num_paths == story.line.num_paths


def _of_every_fate(story: Story) -> Story:
    """The story, but that its first paths failed, said nothing, and came too late to be counted."""
    step, *others = story.steps
    failed, silent, late, *rest = step.paths
    fates = (replace(failed, failure="deadline"), replace(silent, vote=None), replace(late, is_counted=False))
    return replace(story, steps=(replace(step, paths=(*fates, *rest)), *others))


def test_a_waterfall_s_legend_tells_each_kind_of_bar_that_is_in_it_and_no_other(stories: list[Story]) -> None:
    told = set[str]()
    several = next(story for story in stories if story.steps and len(story.steps[0].paths) > 3)
    for story in (*stories, _of_every_fate(several)):
        if (fall := drawing.waterfall(story)) is None:
            continue
        bars = [bar for span in fall.spans for bar in span.bars if bar.width or bar.colour == "verdict"]
        kinds = {bar.colour for bar in bars} - {"step", "stage"}  # these are named beside their rows
        assert {bar.colour for bar in fall.legend} == kinds
        told |= kinds
        as_told = {bar.colour: bar.height for bar in fall.legend}
        assert all(bar.height == as_told[bar.colour] for bar in bars if bar.colour in kinds - {"verdict"})
    assert told == {"queued", "prefill", "a0", "a1", "a2", "a3", "a4", "silent", "late", "fail", "verdict"}


def test_what_becomes_of_paths_is_told_apart_without_colours_too() -> None:
    """By height, by an outline, or by being broken; which other answer it is, colours tell alone."""
    css = (Path(drawing.__file__).parent / "static" / "pages.css").read_text()

    def look(kind: str) -> dict[str, str]:
        (rule,) = re.findall(rf"\.w-{kind} {{([^}}]+)}}", css)
        return dict(re.findall(r"([\w-]+): ([^;]+);", rule))

    looks = {kind: look(kind) for kind in drawing._SHAPES}
    shapes = {
        kind: (height, looks[kind].get("stroke-dasharray"), "stroke" in looks[kind])
        for kind, (_, height) in drawing._SHAPES.items()
    }
    assert shapes["a1"] == shapes["a2"] == shapes["a3"] == shapes["a4"]
    assert len({shapes[kind] for kind in ("queued", "a0", "a1", "silent", "late", "fail", "verdict")}) == 7
    fills = [found["fill"] for found in looks.values() if "fill" in found]
    assert len(fills) == len(set(fills)), "no two kinds have one colour"
