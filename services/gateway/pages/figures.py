"""Quality and system: what the record's figures say of policies, confidence, and the services themselves."""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conclave.errors import LostDependency
from conclave.runtime.client import TopicState
from conclave.store.figures import Bucket, Changed, EngineUse, Failure, Minute, PolicyFigures, Position, Reuse, Stage
from conclave.store.listing import Key
from services.gateway.pages.rendering import is_part, render
from services.gateway.pages.view import View

Topics = Callable[[], Awaitable[Sequence[TopicState]]]  # conclave.runtime.client.Client.topics
_ASK_AGAIN_S, _PATIENCE_S = 5.0, 10.0
_Z = 1.96  # of a normal interval that holds 95 %


class Figures(Protocol):
    """What these pages read: conclave.store.figures.RecordFigures."""

    async def policies(self) -> tuple[PolicyFigures, ...]:
        """Every policy with its arms."""
        ...

    async def calibration(self) -> tuple[Bucket, ...]:
        """Confidence against feedback."""
        ...

    async def contradicted(self) -> tuple[Key, ...]:
        """Answers that feedback calls wrong."""
        ...

    async def minutes(self) -> tuple[Minute, ...]:
        """The last hour by minute, the latest first."""
        ...

    async def stages(self) -> tuple[Stage, ...]:
        """How long each stage took."""
        ...

    async def failures(self) -> tuple[Failure, ...]:
        """What failed."""
        ...

    async def engines(self) -> tuple[EngineUse, ...]:
        """What each engine did in the last hour."""
        ...

    async def reuse(self) -> Reuse:
        """How many answers were recalled."""
        ...

    async def positions(self) -> tuple[Position, ...]:
        """How far the record has read the log."""
        ...

    async def audit(self) -> tuple[Changed, ...]:
        """Who changed what."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """A policy in the plane of tokens and reward; in percent of the drawing, y from above."""

    name: str
    x: float
    y: float
    low: float
    high: float
    colour: str
    title: str


@dataclass(frozen=True, slots=True)
class ArmRow:
    """An arm of an experiment: what it was given, and what came of it."""

    figures: PolicyFigures
    share: float
    low: float | None
    high: float | None


class FigurePages:
    """`/quality` and `/system`."""

    def __init__(self, figures: Figures, view: View, topics: Topics | None) -> None:
        self._figures, self._view, self._topics = figures, view, topics
        self._asking = asyncio.Lock()
        self._said: tuple[Sequence[TopicState], str] = ((), "Nobody here can ask the log.")
        self._said_at = float("-inf")
        self.routes: list[BaseRoute] = [
            Route("/quality", self.quality),
            Route("/system", self.system),
            Route("/system/log", self.log),
            Route("/system/changes", self.changes),
        ]

    async def quality(self, request: Request) -> Response:
        """What policies are worth and cost, and whether confidence can be trusted."""
        policies, buckets, contradicted = await asyncio.gather(
            self._figures.policies(), self._figures.calibration(), self._figures.contradicted()
        )
        return render(
            request,
            "quality.html",
            policies=policies,
            places=places_of(policies),
            most=most_tokens(policies),
            buckets=buckets,
            contradicted=await self._view.lines(contradicted),
        )

    async def system(self, request: Request) -> Response:
        """Throughput, latency and failures. How the log does takes longer to find out: that part comes when it is there."""
        figures = self._figures
        minutes, stages, engines, reuse, failures, positions = await asyncio.gather(
            figures.minutes(),
            figures.stages(),
            figures.engines(),
            figures.reuse(),
            figures.failures(),
            figures.positions(),
        )
        return render(
            request,
            "system.html",
            minutes=minutes,
            stages=stages,
            engines=engines,
            reuse=reuse,
            failures=failures,
            positions=_by_topic(positions),
            knows_topics=self._topics is not None,
        )

    async def changes(self, request: Request) -> Response:
        """Who changed keys, tenants, experiments and policies."""
        return render(request, "changes.html", changes=await self._figures.audit())

    async def log(self, request: Request) -> Response:
        """How many records each topic has, and how far each service is behind: a part of the page, or one of its own."""
        topics, wrong = await self._asked()
        template = "log_body.html" if is_part(request) else "log.html"
        return render(request, template, topics=topics, wrong=wrong)

    async def _asked(self) -> tuple[Sequence[TopicState], str]:
        """What the broker said within the last seconds, so that many who look cost it no more than one."""
        async with self._asking:
            if self._topics is not None and time.monotonic() - self._said_at > _ASK_AGAIN_S:
                try:
                    async with asyncio.timeout(_PATIENCE_S):
                        self._said = await self._topics(), ""
                except (LostDependency, TimeoutError):
                    self._said = (), "Kafka is away."
                self._said_at = time.monotonic()
            return self._said


def most_tokens(policies: Sequence[PolicyFigures]) -> float:
    """The right end of the plane of tokens and reward."""
    return 1.12 * max((each.tokens_out for each in policies if each.reward is not None), default=0.0) or 1.0


def places_of(policies: Sequence[PolicyFigures]) -> tuple[Place, ...]:
    """Policies that got feedback, by what they cost in tokens (to the right) and are worth (upwards)."""
    judged = [each for each in policies if each.reward is not None]
    most = most_tokens(policies)
    found: list[Place] = []
    for number, each in enumerate(judged):
        low, high = _interval(each)
        said = f"{each.num_said} judged, {each.tokens_out:.0f} tokens a request"
        y = 100 - 100 * (each.reward or 0.0)
        colour = f"a{(0, 2, 1, 3, 4)[number % 5]}"
        found.append(
            Place(each.policy, 100 * each.tokens_out / most, y, 100 - 100 * low, 100 - 100 * high, colour, said)
        )
    return tuple(found)


def arms_of(policies: Sequence[PolicyFigures]) -> Mapping[str, list[ArmRow]]:
    """Arms that were drawn, and what was not, under one name each."""
    groups: dict[str, list[PolicyFigures]] = defaultdict(list)
    for each in policies:
        groups["drawn" if each.propensity is not None else "given"].append(each)
    rows: dict[str, list[ArmRow]] = {}
    for name, members in groups.items():
        total = sum(each.num_requests for each in members)
        rows[name] = []
        for each in members:
            low, high = _interval(each) if each.reward is not None else (None, None)
            rows[name].append(ArmRow(each, each.num_requests / total, low, high))
    return rows


def _interval(figures: PolicyFigures) -> tuple[float, float]:
    """Wilson's interval of 95 % for a mean reward (Wilson 1927); rewards between 0 and 1 vary no more than yes and no do."""
    n, p = figures.num_said, figures.reward or 0.0
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _by_topic(positions: Sequence[Position]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for each in positions:
        sums[each.topic] = sums.get(each.topic, 0) + each.next_offset
    return sums
