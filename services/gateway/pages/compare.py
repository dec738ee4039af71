"""Two requests, or two paths, side by side, and where they differ."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conclave.store.listing import Filter
from conclave.store.trace import Path, Step, Story
from schemas.ids import is_request_id
from services.gateway.pages.rendering import changes, count, duration, in_one_line, percent, problem, render, words
from services.gateway.pages.stories import Shape, page_of
from services.gateway.pages.view import RequestView

Pieces = list[tuple[bool, str]]
_NUM_CHOICES = 12
_MAX_NAMED = 10


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of a comparison, on both sides."""

    name: str
    left: str
    right: str

    @property
    def differs(self) -> bool:
        """True when both sides say different things."""
        return self.left != self.right


@dataclass(frozen=True, slots=True)
class StepPair:
    """The steps of one index, and how each is drawn."""

    index: int
    left: Step | None
    right: Step | None
    left_shape: Shape | None
    right_shape: Shape | None

    @property
    def differs(self) -> bool:
        """True when one is not there, or their answers are not the same."""
        return self.left is None or self.right is None or self.left.answer != self.right.answer


@dataclass(frozen=True, slots=True)
class PathSide:
    """One of two paths that are compared."""

    story: Story
    step: Step
    path: Path
    said: Pieces


class ComparePages:
    """`/compare`: `?id=…&id=…` for requests, `?left=id/step/sample&right=…` for paths."""

    def __init__(self, view: RequestView) -> None:
        self._view = view
        self.routes: list[BaseRoute] = [Route("/compare", self.compare)]

    async def compare(self, request: Request) -> Response:
        """Two things side by side, or what to choose a second from."""
        query = request.query_params
        if query.get("left") or query.get("right"):
            return await self._paths(request, query.get("left", ""), query.get("right", ""))
        named = list(dict.fromkeys(query.getlist("id")))[:_MAX_NAMED]
        ids = [each for each in named if is_request_id(each)]
        stories = [story for each in ids[:2] if (story := await self._view.story(each)) is not None]
        if len(stories) == 2:
            return render(request, "compare.html", others=ids[2:], **_requests(*stories))
        latest = await self._view.requests(Filter(), limit=_NUM_CHOICES)
        lines = [line for line in latest.lines if line.request_id not in ids[:2]]
        first = stories[0] if stories else None
        is_missing = len(named) > len(ids) or len(ids[:2]) > len(stories)
        return render(request, "compare_choice.html", first=first, lines=lines, is_missing=is_missing)

    async def _paths(self, request: Request, left: str, right: str) -> Response:
        sides = [await self._path(each) for each in (left, right)]
        if sides[0] is None or sides[1] is None:
            told = "One of these paths is not recorded: a path is named by its request, step and sample."
            return problem(request, 404, "No such path", told)
        here, there = changes(sides[0][2].text, sides[1][2].text)
        return render(
            request,
            "compare_paths.html",
            left=PathSide(*sides[0], here),
            right=PathSide(*sides[1], there),
            figures=_path_figures(sides[0][2], sides[1][2]),
        )

    async def _path(self, place: str) -> tuple[Story, Step, Path] | None:
        request_id, _, rest = place.partition("/")
        step_index, _, sample_index = rest.partition("/")
        is_named = is_request_id(request_id) and step_index.isdecimal() and sample_index.isdecimal()
        story = await self._view.story(request_id) if is_named and len(rest) < 10 else None
        step = story.step(int(step_index)) if story is not None else None
        if story is None or step is None:
            return None
        path = next((each for each in step.paths if each.sample_index == int(sample_index)), None)
        return None if path is None else (story, step, path)


def _requests(left: Story, right: Story) -> dict[str, Any]:
    shapes = [page_of(story)["shapes"] for story in (left, right)]
    indexes = sorted({step.step_index for story in (left, right) for step in story.steps})
    pairs = [
        StepPair(each, left.step(each), right.step(each), shapes[0].get(each), shapes[1].get(each)) for each in indexes
    ]
    here, there = changes(left.question, right.question)
    return {
        "left": left,
        "right": right,
        "here": here,
        "there": there,
        "figures": _figures(left, right),
        "pairs": pairs,
    }


def _figures(left: Story, right: Story) -> list[Figure]:
    a, b = left.line, right.line
    return [
        Figure("Policy", a.policy or "–", b.policy or "–"),
        Figure("Strategy", words(a.strategy) or "–", words(b.strategy) or "–"),
        Figure("Arm", a.arm or "–", b.arm or "–"),
        Figure("Policy’s digest", _digest(left), _digest(right)),
        Figure("Outcome", words(a.failure or a.outcome) or "open", words(b.failure or b.outcome) or "open"),
        Figure("Confidence", percent(a.confidence), percent(b.confidence)),
        Figure("Agreement", percent(a.agreement), percent(b.agreement)),
        Figure("Steps", count(len(left.steps)), count(len(right.steps))),
        Figure("Paths", count(a.num_paths), count(b.num_paths)),
        Figure("Tokens out", count(a.tokens_out), count(b.tokens_out)),
        Figure("Took", duration(a.elapsed_ms), duration(b.elapsed_ms)),
    ]


def _digest(story: Story) -> str:
    return story.plan.policy_digest[:12] if story.plan is not None else "–"


def _path_figures(left: Path, right: Path) -> list[Figure]:
    def both(name: str, a: str | None, b: str | None) -> Figure:
        return Figure(name, in_one_line(a or "–"), in_one_line(b or "–"))

    return [
        both("Answer", left.answer, right.answer),
        both("Counts for", left.vote, right.vote),
        both("Ended by", left.failure or left.finish_reason, right.failure or right.finish_reason),
        Figure("Turns", str(len(left.turns) + 1), str(len(right.turns) + 1)),
        Figure("Sure, as it says", percent(left.probability), percent(right.probability)),
        Figure("Mean log probability", _logprob(left), _logprob(right)),
        Figure("Tokens out", count(left.tokens_out), count(right.tokens_out)),
        Figure("Took", duration(left.total_ms), duration(right.total_ms)),
        both("Model", left.model, right.model),
    ]


def _logprob(path: Path) -> str:
    return "–" if path.mean_logprob is None else f"{path.mean_logprob:.3f}"
