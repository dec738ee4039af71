"""Where things lie in a page's drawings: plain figures, in percent where a drawing stretches, for templates to put down. Pure.

Colours are classes: `a0` is a step's answer, `a1` to `a3` what came next in its tally, `a4` the rest, `fail` no path at all. None
of them says a thing alone: bars differ in height or are hollow or broken, lines in width, and dots have their titles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from conclave.store.trace import Path, Step, Story, Vote

NODE_WIDTH, NODE_HEIGHT = 196, 66
_COLUMN, _ROW = NODE_WIDTH + 56, NODE_HEIGHT + 18
_NUM_COLOURS = 4
_MAX_LANES = 32  # of paths drawn one below the other in a waterfall; the rest lie on top of these
_LANE = 7
# How each kind of bar lies in its lane, y and height, in the order of a legend.
_SHAPES = {"queued": (2, 1), "prefill": (1, 3), "a0": (0, 5), **dict.fromkeys(("a1", "a2", "a3", "a4", "silent"), (1, 3)),
           "late": (1, 3), "fail": (1, 3), "verdict": (-1, 7)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dot:
    """A ballot in launch order; x and y in percent."""

    x: float
    y: float
    colour: str
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """How the votes for one answer grew: `points` as of an SVG polyline over a square of 100."""

    answer: str
    colour: str
    points: str
    votes: int
    weight: float


@dataclass(frozen=True, slots=True)
class Growth:
    """A step's tally over launch order. `stop_x`: where sampling stopped, in percent of what was allowed."""

    lines: tuple[Line, ...]
    dots: tuple[Dot, ...]
    ticks: tuple[tuple[float, str], ...]
    stop_x: float
    num_counted: int
    num_allowed: int


@dataclass(frozen=True, slots=True)
class Node:
    """A step in a plan's graph, in pixels."""

    step: Step
    x: int
    y: int
    is_dim: bool
    is_answer: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """What a step leans on, as an SVG path."""

    path: str
    is_dim: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """A plan: steps from left to right, each to the right of all that it leans on."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a waterfall's row: x and width in percent, y and height in pixels."""

    x: float
    width: float
    y: int
    height: int
    colour: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A row of a waterfall."""

    name: str
    detail: str
    took_ms: float
    bars: tuple[Bar, ...]
    height: int
    step: Step | None = None


@dataclass(frozen=True, slots=True)
class Waterfall:
    """A request's time by stage."""

    spans: tuple[Span, ...]
    total_ms: float
    ticks: tuple[tuple[float, float], ...]  # percent, milliseconds

    @property
    def legend(self) -> tuple[Bar, ...]:
        """A bar of each kind that is in it."""
        drawn = {bar.colour for span in self.spans for bar in span.bars if bar.width or bar.colour == "verdict"}
        return tuple(Bar(0, 100, y, height, colour) for colour, (y, height) in _SHAPES.items() if colour in drawn)


def colours(step: Step) -> dict[str, str]:
    """The class of each answer of a step's tally, its own first; of the ballots so far while it has no verdict."""
    ranked = [row.answer for row in step.tally]
    if not ranked:
        votes = [path.answer for path in step.paths if path.answer is not None]
        ranked = sorted(dict.fromkeys(votes), key=lambda answer: -votes.count(answer))
    if step.answer in ranked:
        ranked.remove(step.answer)
        ranked.insert(0, step.answer)
    return {answer: f"a{min(place, _NUM_COLOURS)}" for place, answer in enumerate(ranked)}


def vote_of(path: Path, step: Step) -> str | None:
    """The answer that a path counts for, or would count for while its step is undecided."""
    if path.failure is not None:
        return None
    return path.vote if step.is_decided else path.answer


def growth(step: Step, num_allowed: int | None) -> Growth | None:
    """How a step's tally grew; None without any ballot, and where one is all.

    `num_allowed`: the samples that its ask allows at most.
    """
    counted = [path for path in step.paths if path.is_counted or (not step.is_decided and path.failure is None)]
    if not counted:
        return None
    allowed = max(num_allowed or 0, step.launched or 0, len(counted))
    if allowed == 1:
        return None  # nothing grows
    colour_of = colours(step)
    sums: dict[str, float] = dict.fromkeys(colour_of, 0.0)
    votes: dict[str, int] = dict.fromkeys(colour_of, 0)
    tracks: dict[str, list[tuple[int, float]]] = {answer: [(0, 0.0)] for answer in colour_of}
    marks: list[tuple[int, float, str, str]] = []
    for place, path in enumerate(counted, 1):
        answer = vote_of(path, step)
        if answer is not None and answer in sums:
            sums[answer] += path.weight if path.weight is not None else 1.0
            votes[answer] += 1
            marks.append((place, sums[answer], colour_of[answer], f"path {path.sample_index}: {answer}"))
        else:
            said = path.failure or "no answer"
            marks.append((place, 0.0, "fail" if path.failure else "silent", f"path {path.sample_index}: {said}"))
        for each, track in tracks.items():
            track.append((place, sums[each]))
    top = max([*sums.values(), 1.0])

    def x(place: float) -> float:
        return round(100 * place / allowed, 3)

    def y(weight: float) -> float:
        return round(100 - 92 * weight / top, 3)

    lines = tuple(
        Line(answer, colour_of[answer], _stairs([(x(place), y(weight)) for place, weight in track]), votes[answer], sums[answer])
        for answer, track in tracks.items()
        if votes[answer]
    )  # fmt: skip
    dots = tuple(Dot(x(place), y(weight), colour, title) for place, weight, colour, title in marks)
    every = max(1, round(allowed / 8))
    ticks = tuple((x(place), str(place)) for place in range(0, allowed + 1, every))
    return Growth(lines[: 2 * _NUM_COLOURS], dots, ticks, x(len(counted)), len(counted), allowed)


def _stairs(points: Sequence[tuple[float, float]]) -> str:
    """Corners of a line that rises where a vote is cast, and not before."""
    corners: list[str] = []
    for index, (x, y) in enumerate(points):
        if index:
            corners.append(f"{x},{points[index - 1][1]}")
        corners.append(f"{x},{y}")
    return " ".join(corners)


def graph(story: Story) -> Graph | None:
    """The plan's graph; None for a request of one step."""
    if len(story.steps) < 2:
        return None
    leant_on = story.leant_on()
    column: dict[int, int] = {}
    row_of: dict[int, int] = {}
    used: dict[int, int] = {}
    for step in story.steps:  # in index order, so all that it leans on has its place
        parents = [index for index in step.depends_on if index in column]
        place = 1 + max((column[index] for index in parents), default=-1)
        row = max(used.get(place, 0), min((row_of[index] for index in parents), default=0))
        column[step.step_index], row_of[step.step_index], used[place] = place, row, row + 1
    nodes = tuple(
        Node(
            step, 8 + column[step.step_index] * _COLUMN, 8 + row_of[step.step_index] * _ROW,
            is_dim=step.step_index not in leant_on, is_answer=step.step_index == story.line.answered_by,
        )
        for step in story.steps
    )  # fmt: skip
    at = {node.step.step_index: node for node in nodes}
    edges = tuple(
        _edge(at[index], node) for node in nodes for index in _nearest(node.step, story) if index in at
    )  # fmt: skip
    width = 16 + max(node.x for node in nodes) + NODE_WIDTH
    return Graph(nodes, edges, width, 16 + max(node.y for node in nodes) + NODE_HEIGHT)


def _nearest(step: Step, story: Story) -> tuple[int, ...]:
    """What a step leans on, without what it leans on through another of these anyway."""
    through: set[int] = set()
    for index in step.depends_on:
        parent = story.step(index)
        through |= set(parent.depends_on) if parent is not None else set()
    return tuple(index for index in step.depends_on if index not in through)


def _edge(start: Node, end: Node) -> Edge:
    x1, y1 = start.x + NODE_WIDTH, start.y + NODE_HEIGHT // 2
    x2, y2 = end.x, end.y + NODE_HEIGHT // 2
    bend = (x1 + x2) // 2
    return Edge(f"M{x1},{y1} C{bend},{y1} {bend},{y2} {x2 - 5},{y2}", start.is_dim or end.is_dim)


def waterfall(story: Story) -> Waterfall | None:
    """Time by stage; None while no path has ended."""
    if not any(_span_of(step) for step in story.steps):
        return None
    moments = [story.recorded_at, story.line.answered_at, *(_span_of(step) or () for step in story.steps)]
    known: list[datetime] = []
    for each in moments:
        if isinstance(each, datetime):
            known.append(each)
        elif each:
            known += each
    if story.plan is not None:
        known.append(story.plan.planned_at)
    if len(known) < 2 or max(known) == min(known):
        return None
    scale = _Scale(min(known), max(known))
    spans: list[Span] = []
    if story.plan is not None and story.recorded_at is not None:
        bar = scale.bar(story.recorded_at, story.plan.planned_at, 3, 10, "stage", "from the request to its plan")
        spans.append(Span("plan", story.plan.strategy, scale.ms(story.recorded_at, story.plan.planned_at), (bar,), 16))
    for step in story.steps:
        times = _span_of(step)
        if times is not None:
            spans.append(_step_span(step, times, scale))
    decided = [step.decided_at for step in story.steps if step.decided_at is not None]
    if story.line.answered_at is not None and decided:
        last = max(decided)
        bar = scale.bar(last, story.line.answered_at, 3, 10, "stage", "from the last verdict to the answer")
        spans.append(Span("answer", "", scale.ms(last, story.line.answered_at), (bar,), 16))
    return Waterfall(tuple(spans), scale.total_ms, scale.ticks())


def _span_of(step: Step) -> tuple[datetime, datetime] | None:
    """From the start of a step's first path to its verdict, or to the end of its last path."""
    starts = [path.recorded_at - timedelta(milliseconds=path.total_ms) for path in step.paths]
    ends = [path.recorded_at for path in step.paths]
    if step.decided_at is not None:
        starts, ends = starts or [step.decided_at], [*ends, step.decided_at]
    return (min(starts), max(ends)) if starts else None


def _step_span(step: Step, times: tuple[datetime, datetime], scale: "_Scale") -> Span:
    lanes = min(max(1, len(step.paths)), _MAX_LANES)
    height = lanes * _LANE + 6
    bars = [scale.bar(*times, 0, height, "step", f"{step.name}: {scale.ms(*times):.0f} ms")]
    colour_of = colours(step)
    for place, path in enumerate(step.paths):
        y = 3 + (place % lanes) * _LANE
        start = path.recorded_at - timedelta(milliseconds=path.total_ms)
        begun = start + timedelta(milliseconds=path.queued_ms or 0.0)
        first = start + timedelta(milliseconds=path.first_token_ms or path.queued_ms or 0.0)
        title = f"path {path.sample_index}: {path.total_ms:.0f} ms"
        bars += [
            scale.path(start, begun, y, "queued", f"{title}, of which {path.queued_ms or 0:.0f} ms it waited"),
            scale.path(begun, first, y, "prefill", f"{title}, first token after {path.first_token_ms or 0:.0f} ms"),
            scale.path(first, path.recorded_at, y, _kind(path, step, colour_of), title),
        ]
    if step.decided_at is not None:
        bars.append(scale.bar(step.decided_at, step.decided_at, 0, height, "verdict", "the verdict"))
    return Span(step.name, step.ask, scale.ms(*times), tuple(bars), height, step)


def _kind(path: Path, step: Step, colour_of: dict[str, str]) -> str:
    """What a path's decoding is drawn as."""
    if path.failure:
        return "fail"
    if path.fate(step.answer) is Vote.UNCOUNTED and step.is_decided:
        return "late"
    return colour_of.get(vote_of(path, step) or "", "silent")


@dataclass(frozen=True, slots=True)
class _Scale:
    start: datetime
    end: datetime

    @property
    def total_ms(self) -> float:
        return self.ms(self.start, self.end)

    def ms(self, start: datetime, end: datetime) -> float:
        return max(0.0, (end - start) / timedelta(milliseconds=1))

    def bar(self, start: datetime, end: datetime, y: int, height: int, colour: str, title: str) -> Bar:
        x = min(max(100 * self.ms(self.start, start) / self.total_ms, 0.0), 100.0)
        width = min(100 * self.ms(max(start, self.start), end) / self.total_ms, 100.0 - x)
        return Bar(round(x, 3), round(max(width, 0.0), 3), y, height, colour, title)

    def path(self, start: datetime, end: datetime, lane: int, kind: str, title: str) -> Bar:
        y, height = _SHAPES[kind]
        return self.bar(start, end, lane + y, height, kind, title)

    def ticks(self) -> tuple[tuple[float, float], ...]:
        step = next(
            (unit * factor for unit in (1, 10, 100, 1_000, 10_000, 100_000, 10**6, 10**7) for factor in (1, 2, 5)
             if self.total_ms / (unit * factor) <= 6),
            self.total_ms,
        )  # fmt: skip
        return tuple((round(100 * i * step / self.total_ms, 3), i * step) for i in range(int(self.total_ms / step) + 1))
