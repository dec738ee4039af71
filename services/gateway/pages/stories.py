"""What the page of a request shows besides its rows: each step's tally, and what it cost. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conclave.store.trace import Path, Step, Story, Vote
from services.gateway.pages import drawing
from services.gateway.pages.drawing import Growth


@dataclass(frozen=True, slots=True)
class BarRow:
    """An answer of a tally; width in percent of the heaviest."""

    answer: str
    votes: int
    weight: float
    width: float
    colour: str


@dataclass(frozen=True, slots=True)
class Shape:
    """How a step is drawn."""

    step: Step
    growth: Growth | None
    rows: tuple[BarRow, ...]
    colours: Mapping[str, str]
    flips: frozenset[int]  # samples whose ballots put another answer in the lead
    spared: int  # samples that were allowed and never launched
    num_cancelled: int
    num_silent: int
    silent_width: float

    def colour_of(self, path: Path) -> str:
        """The class of a path's answer."""
        return self.colours.get(drawing.vote_of(path, self.step) or "", "silent")

    def other_than(self, path: Path) -> int:
        """A path to compare with: the first with another vote, else a neighbour."""
        others = [each for each in self.step.paths if each.sample_index != path.sample_index]
        differing = [each for each in others if each.vote != path.vote and not each.failure]
        return next((each.sample_index for each in [*differing, *others]), path.sample_index)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step cost, or all of them."""

    name: str
    num_paths: int
    tokens_in: int
    tokens_out: int
    share_for_answer: float | None
    tokens_lost: int
    engine_ms: float


def page_of(story: Story) -> dict[str, Any]:
    """Everything that the template of a story is filled with."""
    leant_on = story.leant_on()
    costs = [_cost(step.name, [step]) for step in story.steps]
    if len(story.steps) > 1:
        costs.append(_cost("all", list(story.steps)))
    return {
        "story": story,
        "graph": drawing.graph(story),
        "fall": drawing.waterfall(story),
        "shapes": {step.step_index: shape_of(step, _num_allowed(story, step)) for step in story.steps},
        "leant_on": leant_on,
        "dim": len(story.steps) - len(leant_on),
        "costs": costs,
        "shown": sum(len(step.paths) for step in story.steps),
    }


def shape_of(step: Step, num_allowed: int | None) -> Shape:
    """How a step is drawn, where its ask allows so many samples."""
    grown = drawing.growth(step, num_allowed)
    colour_of = drawing.colours(step)
    rows = [(row.answer, row.votes, row.weight) for row in step.tally]
    if not rows and grown is not None:
        rows = sorted(((line.answer, line.votes, line.weight) for line in grown.lines), key=lambda row: -row[2])
    counted = [path for path in step.paths if path.is_counted]
    silent = sum(path.fate(step.answer) is Vote.SILENT for path in counted)
    top = max([weight for _, _, weight in rows] + [float(silent), 1e-9])
    launched = max(step.launched or 0, len(step.paths))
    return Shape(
        step=step,
        growth=grown,
        rows=tuple(BarRow(a, votes, weight, round(100 * weight / top, 2), colour_of.get(a, "a4")) for a, votes, weight in rows[:8]),
        colours=colour_of,
        flips=_flips(step),
        spared=max(0, (num_allowed or 0) - launched) if step.is_decided else 0,
        num_cancelled=sum(path.failure == "cancelled" for path in step.paths),
        num_silent=silent,
        silent_width=round(100 * silent / top, 2),
    )  # fmt: skip


def _num_allowed(story: Story, step: Step) -> int | None:
    ask = (story.policy.get("asks") or {}).get(step.ask) or {}
    limits = [each for each in (ask.get("max_samples", 16 if ask else None), story.max_samples) if each is not None]
    return min(limits) if limits else None


def _flips(step: Step) -> frozenset[int]:
    sums: dict[str, float] = {}
    leader: str | None = None
    found: set[int] = set()
    for path in step.paths:
        vote = drawing.vote_of(path, step)
        if vote is None or (step.is_decided and not path.is_counted):
            continue
        sums[vote] = sums.get(vote, 0.0) + (path.weight if path.weight is not None else 1.0)
        if leader is None or (vote != leader and sums[vote] > sums[leader]):
            if leader is not None:
                found.add(path.sample_index)
            leader = vote
    return frozenset(found)


def _cost(name: str, steps: list[Step]) -> Cost:
    paths = [(path, step) for step in steps for path in step.paths]
    out = sum(path.tokens_out or 0 for path, _ in paths)
    winning = sum(path.tokens_out or 0 for path, step in paths if path.fate(step.answer) is Vote.WINNER)
    return Cost(
        name=name,
        num_paths=len(paths),
        tokens_in=sum(path.tokens_in or 0 for path, _ in paths),
        tokens_out=out,
        share_for_answer=winning / out if out and all(step.is_decided for step in steps) else None,
        tokens_lost=sum(path.tokens_out or 0 for path, _ in paths if path.failure),
        engine_ms=sum(path.total_ms - (path.queued_ms or 0.0) for path, _ in paths),
    )
